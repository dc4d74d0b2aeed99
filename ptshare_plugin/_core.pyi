"""Types of the C++ extension module: core, the MMU model and the embedded engine."""

from typing import Any

class Run:
    """One simulation: a machine and what drives it. Made only as one of its subclasses."""

    def step(self, count: int) -> bool:
        """About ``count`` instructions more (``Replay``: records); true when all have ended."""

    @property
    def instructions(self) -> int: ...
    @property
    def cycles(self) -> int: ...
    def results(self) -> list[tuple[int, int, int, bytes, bytes, str]]: ...
    def statistics(self) -> list[tuple[int, str, int | float]]: ...
    def samples(self) -> list[list[int]]: ...
    def audit(self) -> list[str]: ...

class Simulation(Run):
    """One run of several processes on one simulated machine under one sharing policy."""

    def __init__(
        self,
        params: dict[str, bool | int | float | str],
        policy: str,
        cores: int,
        seed: int,
        unicorn_library: str,
    ) -> None: ...
    def add_program(
        self,
        name: str,
        image: bytes,
        segments: list[tuple[int, int, int, int, int]],
        entry: int,
        phdr: int,
        phentsize: int,
        phnum: int,
    ) -> int: ...
    def add_process(self, program: int, argv: list[str], env: list[str]) -> int: ...

class Kernel:
    """Core alone, without an engine: system calls, faults and a table walker.

    Calls answer 0 or an address, or minus an errno; ``read``, ``write`` a signal or 0. ``mm`` and
    ``file`` are the numbers that ``create_mm`` and ``create_file`` gave.
    """

    def __init__(
        self,
        policy: str,
        memory_bytes: int,
        levels: int = 4,
        fault_around_bytes: int = 4096,
        dirty_tracking: bool = False,
        pt_reclaim: bool = False,
        share_level: str = "policy",
        share_any_address: bool = False,
        share_anonymous: bool = False,
    ) -> None: ...
    def create_mm(self) -> int: ...
    def share_mm(self, mm: int) -> None: ...
    def fork(self, mm: int) -> int: ...
    def exit(self, mm: int) -> None: ...
    def mms(self) -> list[int]: ...
    def create_file(self, name: str, size: int) -> int: ...
    def close_file(self, file: int) -> None: ...
    def truncate(self, file: int, size: int) -> int: ...
    def mmap(
        self,
        mm: int,
        address: int,
        length: int,
        prot: int,
        flags: int,
        file: int = -1,
        offset: int = 0,
        readable: bool = True,
        writable: bool = True,
    ) -> int: ...
    def munmap(self, mm: int, address: int, length: int) -> int: ...
    def mprotect(self, mm: int, address: int, length: int, prot: int) -> int: ...
    def mremap(
        self,
        mm: int,
        old_address: int,
        old_length: int,
        new_length: int,
        flags: int = 0,
        new_address: int = 0,
    ) -> int: ...
    def madvise(self, mm: int, address: int, length: int, advice: int) -> int: ...
    def set_brk_start(self, mm: int, address: int) -> None: ...
    def brk(self, mm: int, end: int) -> int: ...
    def alignment(self) -> int: ...
    def flush_strategy(self) -> str: ...
    def fault(self, mm: int, address: int, access: str) -> tuple[str, bool, int, bool]: ...
    def touch(self, mm: int, address: int, access: str) -> int: ...
    def read(self, mm: int, address: int) -> tuple[int, int]: ...
    def write(self, mm: int, address: int, value: int) -> int: ...
    def translate(self, mm: int, address: int) -> tuple[int, int, str] | None: ...
    def save(self) -> bytes: ...
    def restored(self) -> Kernel: ...
    def audit(self) -> list[str]: ...
    def table_counts(self) -> dict[str, int]: ...
    def peak_table_counts(self) -> dict[str, int]: ...
    def tables(self) -> list[tuple[int, str, int, str, list[tuple[int, int]]]]: ...
    def rss(self, mm: int) -> tuple[int, int]: ...
    def rss_huge(self, mm: int) -> int: ...
    def vm_pte_bytes(self, mm: int) -> int: ...
    def vmas(self, mm: int) -> list[tuple[int, int, int, int | None, int, bool]]: ...
    def hosts(self) -> list[dict[str, Any]]: ...
    def stats(self) -> dict[str, Any]: ...
    def frames_in_use(self) -> dict[str, int]: ...
    def take_effects(self) -> dict[str, Any]: ...

class Stream(Run):
    """The same machine, driven by an access pattern instead of programs."""

    def __init__(
        self,
        params: dict[str, bool | int | float | str],
        policy: str,
        cores: int,
        pattern: str,
        name: str,
        segments: list[tuple[int, int, int, int, int]],
        values: dict[str, int],
    ) -> None: ...

def patterns() -> dict[str, str]:
    """Workloads that engine stream has a pattern for, and the own argument that it takes, or ""."""

def native_loop(pattern: str, values: dict[str, int]) -> tuple[int, float, int]: ...

class TraceSurvey:
    """One reading of a trace: what it touches outside and inside ``share``."""

    def __init__(self, path: str, share: tuple[int, int]) -> None: ...
    def step(self, records: int) -> bool: ...
    @property
    def records(self) -> int: ...
    @property
    def shared(self) -> int: ...
    @property
    def cut_off(self) -> bool: ...
    def ranges(self) -> list[tuple[int, int]]: ...

class TraceConversion:
    """From lackey's text (``-``: standard input) to the binary form."""

    def __init__(self, source: str, target: str) -> None: ...
    def step(self, records: int) -> bool: ...
    @property
    def records(self) -> int: ...
    @property
    def cut_off(self) -> bool: ...

class Replay(Run):
    """The same machine, driven by a trace in each process."""

    def __init__(
        self,
        params: dict[str, bool | int | float | str],
        policy: str,
        cores: int,
        trace: str,
        ranges: list[tuple[int, int]],
        shared_range: tuple[int, int],
        share: bool,
        processes: int,
        ends_together: bool,
    ) -> None: ...

class Deployment:
    def __init__(
        self, params: dict[str, bool | int | float | str], policy: str, region_bytes: int
    ) -> None: ...
    def make_resident(self) -> bool: ...
    def attach(self, own_pages: int = 0) -> bool: ...
    def stop(self) -> None: ...
    def touch(self, client: int, offset: int, length: int, write: bool) -> bool: ...
    def touch_spread(self, client: int, pages: int, write: bool) -> bool: ...
    def visit(self, client: int, visits: int, seed: int, write: bool) -> bool: ...
    def protect(self, first: int, count: int, prot: int, cpus: int) -> dict[str, int]: ...
    def write_protected(self) -> int: ...
    @property
    def clients(self) -> int: ...
    def tables(self) -> dict[str, dict[str, int]]: ...
    def faults(self) -> dict[str, int]: ...
    @property
    def fault_cycles(self) -> int: ...
    def audit(self) -> list[str]: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def frames_left(self) -> int: ...

class PolicyInfo:
    """A sharing policy, as its own file in ``native/core/policies/`` describes it.

    ``candidate``: weighed against the baseline where nobody names the policies. ``page_by_page``:
    its faults are not all alike, so that no table is touched at once. ``shares_tables``: processes
    that map the same may walk one table. ``strict_alignment``: a request for MAP_SHARED_PT that is
    not aligned, or of a file whose size is no multiple of 2 MiB, is EINVAL.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def shares_tables(self) -> bool: ...
    @property
    def strict_alignment(self) -> bool: ...
    @property
    def page_by_page(self) -> bool: ...
    @property
    def candidate(self) -> bool: ...

def policies() -> list[PolicyInfo]: ...
def counters() -> list[tuple[str, str, str]]: ...
def machine_metrics() -> list[tuple[str, str, str]]: ...
def measure_protect(
    params: dict[str, bool | int | float | str],
    policy: str,
    processes: int,
    cores: int,
    region: int,
    piece: int,
    way: int,
    direction: int,
) -> dict[str, int | None]: ...
def policy_shares_tables(params: dict[str, bool | int | float | str], policy: str) -> bool: ...

class RecordEncoder:
    """Words of the recorder's tool into pieces of a stream (docs/recording.md)."""

    def __init__(self, parent: RecordEncoder = ..., definitions: int = ...) -> None: ...
    def feed(self, words: bytes | bytearray | memoryview) -> None: ...
    def take(self) -> tuple[bytes, bytes]:
        """End a piece: its events and its blocks."""

    @property
    def words(self) -> int: ...
    @property
    def definitions(self) -> int: ...
    @property
    def name(self) -> bytes: ...
    @property
    def title(self) -> bytes: ...
    @property
    def ended(self) -> bool: ...
    @property
    def exited(self) -> bool: ...
    @property
    def status(self) -> int: ...
    @property
    def in_exec(self) -> bool: ...
    @property
    def inside_item(self) -> bool: ...
    def totals(self) -> dict[str, int]: ...

class RecordDecoder:
    """Pieces of a stream into its items; ``parent``: of a forked child, whose has come there."""

    def __init__(self, parent: RecordDecoder = ..., definitions: int = ...) -> None: ...
    def count(self, events: bytes, blocks: bytes) -> None:
        """Read the next piece; ``totals`` then has what is in it."""

    def items(self, events: bytes, blocks: bytes) -> list[tuple[Any, ...]]:
        """The items of the next piece; see ``native/bindings/recording.cc``."""

    def totals(self) -> dict[str, int]: ...

def record_events(events: bytes) -> list[tuple[int, int, tuple[int, ...]]]:
    """Kind, small and words of each event of a piece but definitions."""

class TraceImporter:
    """Somebody else's traces into recordings; ``kind``: drmemtrace, champsim or cloudsuite."""

    def __init__(self, kind: str) -> None: ...
    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""

    def feed(self, lane: int, records: bytes, start: int, until: int) -> tuple[int, int]:
        """Take records of a lane, from byte ``start``, up to one that is later than ``until``.

        Gives the bytes taken, and that record's time, or 0; none at all: the lane has ended.
        RuntimeError: what is wrong with them.
        """

    def write(self, names: list[str], shared: list[tuple[int, int]]) -> None:
        """All has been looked at: it comes once more, and is written.

        ``names``: of the processes. ``shared``: ranges that all of them map of one object each.
        ValueError: nothing touches one.
        """

    def finish(self) -> None:
        """All has come."""

    def left_out(self) -> dict[str, int]:
        """What is left out, in words, and how often."""

    @property
    def processes(self) -> list[int]:
        """Their numbers."""

    def encoder(self, process: int) -> RecordEncoder:
        """What a process's file is to have, by its place in ``processes``."""

class Playback(Run):
    """Replays a recording; ``streams``: ``recording.reading.Streams``."""

    def __init__(
        self,
        params: dict[str, Any],
        policy: str,
        cores: int,
        streams: Any,
        copies: list[tuple[int, int]],
        shared: dict[tuple[int, int], tuple[int, int]],
        roi: tuple[int, int],
        translated: bool,
    ) -> None:
        """Begin.

        ``copies``: streams once more, later by so many ns. ``shared``: mappings, by stream and
        stamp of the call's return, that ask for MAP_SHARED_PT, with address and bytes (0: as
        recorded). ``roi``: stamps of the region of interest. ``translated``: code is read when
        the recorder translated it, and then not fetched.
        """

    @property
    def streams(self) -> list[int]:
        """The stream that each rank replays first."""

    def deviations(self) -> list[list[tuple[str, int, int, int]]]:
        """By stream: what is not as recorded, first address, bytes, times."""

    def present(self) -> list[tuple[int, int, int, list[tuple[int, int]]]]:
        """With ``translated``, when a program ends: stream, rank, VmPTE, runs of present pages."""
