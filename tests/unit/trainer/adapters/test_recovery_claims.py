"""For how long a job's recovery is claimed."""

from __future__ import annotations

from services.trainer.adapters.redis_lease import RedisLease


class _Keys:
    """A broker and its client: keys and the milliseconds that they live."""

    def __init__(self) -> None:
        self.lives_ms: dict[str, int] = {}

    def connect(self, _: float) -> _Keys:
        return self

    def set(self, key: str, _: str, px: int, nx: bool = False) -> bool:
        is_set = not nx or key not in self.lives_ms
        if is_set:
            self.lives_ms[key] = px
        return is_set


def test_who_claims_a_recovery_has_a_minute_to_send_and_nobody_sends_again_for_ten():
    broker = _Keys()
    lease = RedisLease(broker)
    assert lease.claim_recovery("j")
    assert broker.lives_ms == {"plumbline:recovered:j": 60_000}
    lease.note_recovery("j")
    assert not lease.claim_recovery("j")
    assert broker.lives_ms == {"plumbline:recovered:j": 600_000}
