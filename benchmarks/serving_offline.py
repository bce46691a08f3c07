"""The edit pipeline without a server: reads sizes of batches, prints seconds and CPU seconds.

echo 8 | OMP_NUM_THREADS=1 python benchmarks/serving_offline.py BUNDLE_FOLDER EDITS_AT_ONCE
"""

import sys
import time
from pathlib import Path

from serving_bundle import edit_request

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.editing.pipeline import EditPipeline


def main() -> None:
    pipeline = EditPipeline.from_bundle(Path(sys.argv[1]), edits_at_once=int(sys.argv[2]))
    request = edit_request()
    pipeline.run([request])
    for line in sys.stdin:
        requests = [request.model_copy(update={"seed": seed}) for seed in range(int(line))]
        start, cpu_start = time.perf_counter(), time.process_time()
        answers = pipeline.run(requests)
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        if any(isinstance(answer, RequestError) for answer in answers):
            raise RuntimeError(f"an edit failed: {answers}")
        print(seconds, cpu_s, flush=True)


if __name__ == "__main__":
    main()
