"""A worker for tests, which runs all models of a directory: importing TensorFlow takes long.

Its lane's model is that directory. The name of a call is `MODEL:NAME`.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2] / "bridge" / "_parity" / "runners")

import worker  # noqa: E402


class ManyModels(worker.Worker):
    def __init__(self, lane):
        super().__init__(lane)
        self._workers = {}

    def _load(self, request):
        return {}

    def _run(self, request):
        return self._of(request)._run(request)

    def _train(self, request):
        return self._of(request)._train(request)

    def _losses(self, request):
        return self._of(request)._losses(request)

    def _loss_gradients(self, request):
        return self._of(request)._loss_gradients(request)

    def _of(self, request):
        model, _, request["call"]["name"] = request["call"]["name"].partition(":")
        if model not in self._workers:
            one = worker.Worker(dict(self._lane, model=str(Path(self._lane["model"]) / model)))
            one._setup, one._facts = self._setup, self._facts
            self._setup.lane = one._lane
            one._load(request)
            self._workers[model] = one
        self._setup.lane = self._workers[model]._lane
        return self._workers[model]


if __name__ == "__main__":
    worker.main(ManyModels)
