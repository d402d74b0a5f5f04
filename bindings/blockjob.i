/* SPDX-License-Identifier: MIT */
/*
 * libblockjob for Python, Go and Perl: one interface, made from the public header itself. Plain
 * records and scalars only; what is particular to a language is in python.swg, go.swg and perl.swg.
 *
 * Run SWIG from the top folder, where its own python.swg and so on are not hidden by ours:
 *
 *     swig -python -builtin -Werror -Wall -Icore/include -outdir build -o build/core_wrap.c \
 *         bindings/blockjob.i
 */
#if defined(SWIGPYTHON)
%module(package="blockjob") core
#elif defined(SWIGPERL)
%module "BlockJob::Core"
#else
%module blockjob
#endif

%{
#ifdef SWIGGO
#include "core.h"
#else
#include <blockjob/blockjob.h>
#endif
%}

%include <stdint.i>

/* No C thread ever calls into these languages: they read records from a queue. */
%ignore bj_log_fn;
%ignore bj_ctx_set_log;
%ignore bj_closure;
%ignore bj_future_on_done;
%ignore bj_watch_closure;
%ignore bj_watch_on_record;
%ignore bj_trace_fn;
%ignore bj_monitor_set_trace;

/* Each language has its own way to say the options, and reads a trace as a watch. */
%ignore bj_connect_options;
%ignore bj_monitor_connect_with;

/* Records are read, never written. */
%immutable;

#ifdef SWIGPYTHON
%include "python.swg"
#endif
#ifdef SWIGGO
%include "go.swg"
#endif
#ifdef SWIGPERL
%include "perl.swg"
#endif

%include <blockjob/blockjob.h>
