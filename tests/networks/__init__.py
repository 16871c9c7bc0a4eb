"""The proof on real networks: every family of Keras Applications in every format it is saved in."""
