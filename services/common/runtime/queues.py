"""Names on the broker. Two services and every outside producer meet here; see docs/queues.md."""

CRITIQUES_QUEUE = "plumbline.critiques"
URGENT_QUEUE = "plumbline.jobs.urgent"
JOBS_QUEUE = "plumbline.jobs"
BATCH_QUEUE = "plumbline.jobs.batch"

WORKER_QUEUES = (CRITIQUES_QUEUE, URGENT_QUEUE, JOBS_QUEUE, BATCH_QUEUE)
"""In the order in which a worker takes from them: a later one when all before it are empty. Critiques come first, for a batch is a second's work and
its job waits for it."""
QUEUES_BY_NAME = {"all": WORKER_QUEUES, "critiques": WORKER_QUEUES[:1], "jobs": WORKER_QUEUES[1:]}
"""What a worker may be told to take."""

SUBMIT_TASK = "plumbline.submit"
"""One keyword argument, `request`: the JSON of SubmitAlignmentRequest."""
CRITIQUE_TASK = "plumbline.critique"
"""One keyword argument, `job_id`."""
CONSUME_CRITIQUES_TASK = "plumbline.consume_critiques"
"""One keyword argument, `batch`: the JSON of a critique batch."""
TRAIN_TASK = "plumbline.train"
"""One keyword argument, `job_id`."""
