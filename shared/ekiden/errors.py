"""Every error Ekiden can answer with: one class per code, with its HTTP status and whether a retry may help."""

from typing import ClassVar


class EkidenError(Exception):
    """Base of all errors that reach a client. `str(error)` is the message, in one sentence, free of user text.

    `job` is the job it is about, where the raiser knows one.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: float | None = None, job: str | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.job = job


class InvalidFrame(EkidenError):
    """The frame is not a JSON object of a known type."""

    code, http_status = "invalid_frame", 400


class FrameTooLarge(EkidenError):
    """The frame is over the soft limit; the connection stays."""

    code, http_status = "frame_too_large", 413


class InvalidRequest(EkidenError):
    """A field is missing, unknown or has the wrong type, or the conversation's shape is wrong."""

    code, http_status = "invalid_request", 400


class OutOfRange(EkidenError):
    """A number is outside its range."""

    code, http_status = "out_of_range", 400


class Unauthorized(EkidenError):
    """No key, or an unknown one."""

    code, http_status = "unauthorized", 401


class Forbidden(EkidenError):
    """The Origin or Host is not on the allow-list, or the key has not the role for it."""

    code, http_status = "forbidden", 403


class ModelNotFound(EkidenError):
    """No worker ever served this model here."""

    code, http_status = "model_not_found", 404


class JobNotFound(EkidenError):
    """No such job, or another user's."""

    code, http_status = "job_not_found", 404


class WorkerNotFound(EkidenError):
    """No worker of this incarnation has a lease."""

    code, http_status = "worker_not_found", 404


class NotApplicable(EkidenError):
    """The action does nothing to a job in its state."""

    code, http_status = "not_applicable", 409


class ConversationNotFound(EkidenError):
    """No such conversation, or another user's, or it expired."""

    code, http_status = "conversation_not_found", 404


class ConversationBusy(EkidenError):
    """The conversation's last answer is still under way, or it changed at this very moment."""

    code, http_status, retryable = "conversation_busy", 409, True


class IdConflict(EkidenError):
    """The same `id` came with another body."""

    code, http_status = "id_conflict", 409


class BadCursor(EkidenError):
    """The cursor lies beyond the end of an answer that is complete."""

    code, http_status = "bad_cursor", 400


class Expired(EkidenError):
    """The job ended so long ago that only its summary is kept."""

    code, http_status = "expired", 410


class QueueFull(EkidenError):
    """The queue is at its bound."""

    code, http_status, retryable = "queue_full", 429, True


class TooManyJobs(EkidenError):
    """This user is at its limit of unfinished jobs."""

    code, http_status, retryable = "too_many_jobs", 429, True


class StoreUnavailable(EkidenError):
    """The job store does not answer."""

    code, http_status, retryable = "store_unavailable", 503, True


class PromptTooLong(EkidenError):
    """The prompt and `max_tokens` do not fit the model's context."""

    code, http_status = "prompt_too_long", 400


class SpecialTags(EkidenError):
    """A message holds a tag reserved by the prompt format."""

    code, http_status = "special_tags", 400


class QueueTimeout(EkidenError):
    """The job waited longer than the queue-wait limit."""

    code, http_status, retryable = "queue_timeout", 504, True


class ParkTimeout(EkidenError):
    """The job was parked longer than the limit."""

    code, http_status = "park_timeout", 504


class RunTimeout(EkidenError):
    """The job ran longer than the run limit."""

    code, http_status = "run_timeout", 504


class Abandoned(EkidenError):
    """No client watched the job for longer than the grace."""

    code, http_status = "abandoned", 410


class Poison(EkidenError):
    """The job killed its worker's engine several times in a row."""

    code, http_status = "poison", 500


class EngineFailed(EkidenError):
    """The engine failed on this job."""

    code, http_status, retryable = "engine_error", 500, True


class JobLost(EkidenError):
    """The store was replaced and has no record of the job."""

    code, http_status, retryable = "job_lost", 410, True


def _all(base: type[EkidenError]) -> list[type[EkidenError]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in _all(child))]


BY_CODE: dict[str, type[EkidenError]] = {kind.code: kind for kind in _all(EkidenError)}
