"""Which errors of the store pass by themselves."""

import pytest
import redis

from ekiden.store import reason_of, store_down

COMMAND = "Command # 1 (EVALSHA abc 1 {ekiden}: MISCONF OOM caused error...) of pipeline caused error: "


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (redis.ConnectionError("gone"), True),
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), True),
        (redis.ResponseError(f"{COMMAND}MISCONF Errors writing to the AOF file"), True),
        (redis.ResponseError(f"{COMMAND}NOREPLICAS Not enough good replicas to write."), True),
        (redis.exceptions.ClusterDownError("The cluster is down"), True),
        (OSError(), True),
        (redis.ResponseError("user_script:5: attempt to index a nil value"), False),
        (redis.ResponseError(f"{COMMAND}user_script:5: MISCONF"), False),
        (redis.exceptions.NoPermissionError("this user has no permissions"), False),
        (ValueError("MISCONF"), False),
    ],
)
def test_what_passes_is_waited_for_and_all_else_is_a_fault(error: Exception, passes: bool) -> None:
    assert store_down(error) is passes


def test_the_reason_is_told_without_the_command_which_holds_what_users_said() -> None:
    assert reason_of(redis.ResponseError(f"{COMMAND}NOREPLICAS Not enough.")) == "NOREPLICAS Not enough."
    assert reason_of(redis.TimeoutError()) == "TimeoutError"
