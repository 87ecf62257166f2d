"""The views a dashboard may show, each of which can be read from a desk. Equal ones are read once for all pages."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import msgspec

from ekiden.store.operator import JobFilter
from ekiden_api.admin.desk import Desk

TAIL_POINTS = 3
AUDIT_PAGE = 50
MAX_PAGE = 200

RangeName = Literal["15m", "1h", "24h"]


class JobsQuery(JobFilter, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of the list of jobs."""

    limit: int = 50
    cursor: int | None = None

    def wanted(self) -> JobFilter:
        """The filter alone."""
        return JobFilter(**{name: getattr(self, name) for name in JobFilter.__struct_fields__})


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="watch", tag_field="type"):
    """What a page shows from now on."""

    overview: bool = False
    series: RangeName | None = None
    jobs: JobsQuery | None = None
    job: str | None = None
    drills: bool = False
    audit: bool = False


_decoder = msgspec.json.Decoder(Watch)


def decode_watch(text: str | bytes) -> Watch:
    """Parse what a page says. Raises msgspec.DecodeError or msgspec.ValidationError."""
    return _decoder.decode(text)


class View(Protocol):
    """One thing that is shown; hashable."""

    name: ClassVar[str]

    async def read(self, desk: Desk) -> msgspec.Struct:
        """Read it. Raises EkidenError, redis.RedisError and OSError."""
        ...


@dataclass(frozen=True, slots=True)
class OverviewShown:
    """How everything stands."""

    name: ClassVar[str] = "overview"

    async def read(self, desk: Desk) -> msgspec.Struct:
        return await desk.overview()


@dataclass(frozen=True, slots=True)
class SeriesShown:
    """The history: whole, or its last points for a page that has the others."""

    name: ClassVar[str] = "series"
    range: RangeName
    whole: bool

    async def read(self, desk: Desk) -> msgspec.Struct:
        return await desk.series(self.range, None if self.whole else TAIL_POINTS)


@dataclass(frozen=True, slots=True)
class JobsShown:
    """A page of jobs."""

    name: ClassVar[str] = "jobs"
    query: JobsQuery

    async def read(self, desk: Desk) -> msgspec.Struct:
        limit = min(max(1, self.query.limit), MAX_PAGE)
        return await desk.jobs(self.query.wanted(), limit, self.query.cursor)


@dataclass(frozen=True, slots=True)
class JobShown:
    """One job."""

    name: ClassVar[str] = "job"
    job: str
    with_text: bool

    async def read(self, desk: Desk) -> msgspec.Struct:
        return await desk.job(self.job, shown=self.with_text)


@dataclass(frozen=True, slots=True)
class DrillsShown:
    """The scorecards."""

    name: ClassVar[str] = "drills"

    async def read(self, desk: Desk) -> msgspec.Struct:
        return await desk.drills()


@dataclass(frozen=True, slots=True)
class AuditShown:
    """The newest entries of the audit log."""

    name: ClassVar[str] = "audit"

    async def read(self, desk: Desk) -> msgspec.Struct:
        return await desk.audit(AUDIT_PAGE, None)


def views_of(watch: Watch, *, with_text: bool, whole_series: bool) -> list[View]:
    """What a page shows."""
    views: list[View] = []
    if watch.overview:
        views.append(OverviewShown())
    if watch.series:
        views.append(SeriesShown(watch.series, whole_series))
    if watch.jobs:
        views.append(JobsShown(watch.jobs))
    if watch.job:
        views.append(JobShown(watch.job, with_text))
    if watch.drills:
        views.append(DrillsShown())
    if watch.audit:
        views.append(AuditShown())
    return views
