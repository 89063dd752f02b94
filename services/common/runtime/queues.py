"""Names on the broker. Two services and every outside producer meet here; see docs/queues.md."""

JOBS_QUEUE = "plumbline.jobs"
CRITIQUES_QUEUE = "plumbline.critiques"

SUBMIT_TASK = "plumbline.submit"
"""One keyword argument, `request`: the JSON of SubmitAlignmentRequest."""
CRITIQUE_TASK = "plumbline.critique"
"""One keyword argument, `job_id`."""
CONSUME_CRITIQUES_TASK = "plumbline.consume_critiques"
"""One keyword argument, `batch`: the JSON of a critique batch."""
TRAIN_TASK = "plumbline.train"
"""One keyword argument, `job_id`."""
