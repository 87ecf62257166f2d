"""The names of all keys and channels.

One hash tag: a cluster keeps them on one node, so a script may reach all of them.
"""


class Keys:
    """Key names under one prefix; the Lua scripts build the same names from `prefix` (lua/lib/core.lua)."""

    def __init__(self, prefix: str) -> None:
        self.prefix = f"{{{prefix}}}:"
        self.jobs = self.prefix + "jobs"  # ZSET job → submission number: the index of everything that is kept
        self.workers = self.prefix + "workers"  # ZSET incarnation → lease expiry, ms
        self.replicas = self.prefix + "replicas"  # ZSET replica → lease expiry, ms
        self.totals = self.prefix + "totals"  # HASH: what was counted since the store began (lua/lib/count.lua)
        self.audit = self.prefix + "audit"  # STREAM: what operators did
        self.drills = self.prefix + "drills"  # HASH drill → encoded scorecard
        self.models = self.prefix + "models"  # HASH model → context tokens; remembered without workers
        self.api_keys = self.prefix + "keys"  # HASH key id → JSON KeyRecord
        self.audit = self.prefix + "audit"  # STREAM: what was done, by whom

    def job(self, job: str) -> str:
        """HASH: the record."""
        return f"{self.prefix}job:{job}"

    def request(self, job: str) -> str:
        """STRING: the encoded JobRequest."""
        return f"{self.prefix}request:{job}"

    def log(self, job: str) -> str:
        """LIST: one encoded Record a token."""
        return f"{self.prefix}log:{job}"

    def times(self, job: str) -> str:
        """STRING: a pair of 32-bit numbers for each write to the log: its length then, and ms since submission."""
        return f"{self.prefix}times:{job}"

    def watchers(self, job: str) -> str:
        """SET: the replicas that watch a job."""
        return f"{self.prefix}watchers:{job}"

    def step(self, length_ms: int, begin_ms: int) -> str:
        """HASH: what was counted in one step of the history."""
        return f"{self.prefix}stat:{length_ms}:{begin_ms}"

    def idempotency(self, user: str, client_id: str) -> str:
        """STRING: the job that a request of this user became."""
        return f"{self.prefix}idem:{user}:{client_id}"

    def conversation(self, conversation: str) -> str:
        """HASH: a kept conversation, without its turns."""
        return f"{self.prefix}conv:{conversation}"

    def turns(self, conversation: str) -> str:
        """LIST: one encoded KeptTurn a turn."""
        return f"{self.prefix}turns:{conversation}"

    def conversations(self, user: str) -> str:
        """ZSET conversation → last change, ms: those of one user."""
        return f"{self.prefix}user:{user}:convs"

    def browser_session(self, digest: str) -> str:
        """STRING: the key that a browser logged in with."""
        return f"{self.prefix}session:{digest}"

    def worker(self, incarnation: str) -> str:
        """HASH: what a worker says of itself."""
        return f"{self.prefix}worker:{incarnation}"

    def worker_jobs(self, incarnation: str) -> str:
        """SET: the jobs a worker owns."""
        return f"{self.prefix}worker:{incarnation}:jobs"

    def queue(self, model: str) -> str:
        """ZSET: a model's queued jobs, by priority, then age."""
        return f"{self.prefix}queue:{model}"

    def out(self, replica: str) -> str:
        """Channel: frames for one API replica."""
        return f"{self.prefix}out:{replica}"

    def live(self, incarnation: str) -> str:
        """Channel: a worker's subscription is its sign of life; a message asks it to beat now."""
        return f"{self.prefix}live:{incarnation}"

    def wake(self, model: str) -> str:
        """Channel: jobs of this model were queued again; workers with free slots claim."""
        return f"{self.prefix}wake:{model}"
