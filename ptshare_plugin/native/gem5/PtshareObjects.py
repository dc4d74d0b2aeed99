"""SimObjects of ptshare for gem5: a kernel, a workload, and an MMU that walks tables in SE mode.

One ``PtshareWalker`` a CPU holds that CPU's translation caches; both of the CPU's ``PtshareTLB``
use it. ``gem5_configs/ptshare_board.py`` shows how they are put together.
"""

from m5.objects.ClockedObject import ClockedObject
from m5.objects.X86SeWorkload import X86EmuLinux
from m5.objects.X86TLB import X86TLB, X86PagetableWalker
from m5.params import Param, VectorParam
from m5.util.pybind import PyBindMethod


class PtshareKernel(ClockedObject):
    """What the operating system does about memory, and what it costs."""

    type = "PtshareKernel"
    cxx_class = "ptshare::g5::Kernel"
    cxx_header = "gem5/kernel.hh"
    cxx_exports = [PyBindMethod("status"), PyBindMethod("samples")]

    policy = Param.String("private", "sharing policy")
    machine = VectorParam.String(
        "machine configuration: key=value of all keys that ptshare's objects read, and no others "
        "(ptshare_board.parameters)"
    )


class PtshareWorkload(X86EmuLinux):
    """System calls about memory go to core, all others to gem5's emulation."""

    type = "PtshareWorkload"
    cxx_class = "ptshare::g5::Workload"
    cxx_header = "gem5/workload.hh"

    kernel = Param.PtshareKernel("kernel that answers them")


class PtshareWalker(X86PagetableWalker):
    """A CPU's translation caches, and the walker that fills them with reads through its port."""

    type = "PtshareWalker"
    cxx_class = "ptshare::g5::Walker"
    cxx_header = "gem5/walker.hh"

    kernel = Param.PtshareKernel("kernel whose tables are walked")
    max_walks = Param.Unsigned(1, "walks under way at a time; further ones wait")
    places = VectorParam.Unsigned(
        "where a read was served (0: L1, 1: L2, 2: LLC, 3: memory), by the number of caches that "
        "missed it; the last one stands for all further"
    )


class PtshareTLB(X86TLB):
    """The instruction or data side of a walker's translation caches."""

    type = "PtshareTLB"
    cxx_class = "ptshare::g5::Tlb"
    cxx_header = "gem5/tlb.hh"

    kernel = Param.PtshareKernel("kernel that serves its faults")
    pages = Param.PtshareWalker("translation caches and walker of this CPU")
