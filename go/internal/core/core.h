/* SPDX-License-Identifier: MIT */
/*
 * The library's header: ours (bundled.go), or that of the installed library (system.go).
 */
#ifdef BLOCKJOB_SYSTEM
#include <blockjob/blockjob.h>
#else
#include "blockjob.h"
#endif
