// SPDX-License-Identifier: GPL-2.0-or-later
// The tool `ptshare`: records what a program does with memory, for `ptshare record`.
#include <pub_tool_aspacemgr.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_libcprint.h>
#include <pub_tool_libcproc.h>
#include <pub_tool_machine.h>
#include <pub_tool_options.h>
#include <pub_tool_signals.h>
#include <pub_tool_vki.h>
#include <pub_tool_vkiscnums.h>

#include "tool.h"

#define TEXT_MOST 4096
#define NO_HUGE_PAGES 41  // PR_SET_THP_DISABLE

static const HChar* socket_path;
static ThreadId running = 1;
static Addr title;  // argv[0], which a program may write its title to

static Bool option(const HChar* argument) {
    return VG_STR_CLO(argument, "--socket", socket_path);
}

static void usage(void) {
    VG_(printf)("    --socket=PATH   socket of `ptshare record`\n");
}

static void no_usage(void) {
}

static void tell_text(enum PtshareKind kind, const HChar* text) {
    ptshare_text(ptshare_item(kind, 0, ptshare_text_words(text)), text);
}

static void tell_name(void) {
    HChar command[TEXT_MOST];
    VG_(client_cmd_and_args)(command, sizeof command);
    tell_text(PTSHARE_NAME, command);
}

static void options_read(void) {
    if (socket_path == NULL) {
        VG_(fmsg_bad_option)("--socket", "is what `ptshare record` gives: use that\n");
    }
    // What is recorded at the end are tables of small pages, whatever the machine prefers.
    ptshare_call(__NR_prctl, NO_HUGE_PAGES, 1, 0, 0, 0, 0);
    ptshare_connect(socket_path);
    ptshare_born(0, 0);
    tell_name();
}

static void before_fork(ThreadId thread) {
    (void)thread;
    ptshare_flush();
}

static void in_child(ThreadId thread) {
    const ULong parent = ptshare_stream();
    ptshare_begin_anew();
    ptshare_program_starts(True);
    ptshare_born(parent, ptshare_definitions());
    tell_name();
    if (thread != running) running = thread;
    ptshare_item(PTSHARE_THREAD, running, 0);
}

static void starts_code(ThreadId thread, ULong blocks) {
    (void)blocks;
    ptshare_runs_on();
    if (title == 0) {
        // The first instruction is next: its stack pointer is at argc.
        const Addr stack = VG_(get_SP)(thread);
        title = ((const Addr*)stack)[1];
        ptshare_program_starts(False);
    }
    if (thread == running) return;
    running = thread;
    ptshare_item(PTSHARE_THREAD, thread, 0);
}

static void thread_begins(ThreadId thread, ThreadId child) {
    (void)thread;
    ptshare_item(PTSHARE_THREAD_BEGINS, child, 0);
}

static void thread_ends(ThreadId thread) {
    ptshare_item(PTSHARE_THREAD_ENDS, thread, 0);
}

static void before_handler(ThreadId thread, Int number, Bool other_stack) {
    (void)other_stack;
    if (number == VKI_SIGSEGV || number == VKI_SIGBUS) ptshare_stop_last_block(VG_(get_IP)(thread));
    ptshare_item1(PTSHARE_SIGNAL, (ULong)number | (ULong)thread << 16, ptshare_now());
}

static void tell_title(void) {
    HChar text[TEXT_MOST];
    if (!VG_(am_is_valid_for_client)(title, 1, VKI_PROT_READ)) return;
    SizeT most = sizeof text - 1;
    while (!VG_(am_is_valid_for_client)(title, most, VKI_PROT_READ)) most /= 2;
    const SizeT length = VG_(strnlen)((const HChar*)title, most);
    VG_(memcpy)(text, (const HChar*)title, length);
    text[length] = '\0';
    tell_text(PTSHARE_TITLE, text);
}

// Valgrind's own idea of the status is 0, whatever the program says.
static void finish(Int valgrinds_status) {
    (void)valgrinds_status;
    UWord status;
    const Bool exited = ptshare_exit_called(&status);
    if (!exited) ptshare_stop_last_block(VG_(get_IP)(running));
    tell_title();
    ptshare_present();
    ptshare_item2(PTSHARE_END, exited ? 1 : 0, exited ? status : 0, ptshare_now());
    ptshare_flush();
}

static void start(void) {
    VG_(details_name)("ptshare");
    VG_(details_version)("1");
    VG_(details_description)("records what a program does with memory");
    VG_(details_copyright_author)("the ptshare developers; GPL-2.0-or-later");
    VG_(details_bug_reports_to)("the ptshare developers");
    VG_(basic_tool_funcs)(options_read, ptshare_instrument, finish);
    VG_(needs_command_line_options)(option, usage, no_usage);
    VG_(needs_syscall_wrapper)(ptshare_pre_call, ptshare_post_call);
    VG_(atfork)(before_fork, NULL, in_child);
    VG_(track_start_client_code)(starts_code);
    VG_(track_pre_thread_ll_create)(thread_begins);
    VG_(track_pre_thread_ll_exit)(thread_ends);
    VG_(track_pre_deliver_signal)(before_handler);
    ptshare_track_memory();
}

VG_DETERMINE_INTERFACE_VERSION(start)
