"""The edit pipeline without a server: reads batch sizes from stdin, prints seconds.

echo 8 | python benchmarks/serving_offline.py BUNDLE_FOLDER
"""

import sys
import time
from pathlib import Path

import torch
from serving_bundle import edit_request

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.editing.pipeline import EditPipeline


def main() -> None:
    torch.set_num_threads(1)
    pipeline = EditPipeline.from_bundle(Path(sys.argv[1]))
    request = edit_request()
    pipeline.run([request])
    for line in sys.stdin:
        requests = [request.model_copy(update={"seed": seed}) for seed in range(int(line))]
        start = time.perf_counter()
        answers = pipeline.run(requests)
        seconds = time.perf_counter() - start
        if any(isinstance(answer, RequestError) for answer in answers):
            raise RuntimeError(f"an edit failed: {answers}")
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
