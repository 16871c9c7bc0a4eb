"""Protocol buffer messages of TensorFlow and TensorFlow Hub, without either package.

`tf_pb` and `hub_pb` hold message classes built from a small subset of TensorFlow's .proto files
(same names, same field numbers); `record_pb` holds the one message of hubbridge itself. They live
in a descriptor pool of their own, so they never clash with the classes that TensorFlow registers in
the same process; exchange bytes with those, not message objects. Fields that the subset does not
list survive a read and a write.
"""

MAX_MESSAGE_BYTES = (2 << 30) - 1
"""protobuf itself reads no message over 2 GiB."""
