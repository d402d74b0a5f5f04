/* SPDX-License-Identifier: MIT */
/*
 * The parts of a start that its commands share; see start_calls.h.
 */
#ifndef BJ_START_PARTS_H
#define BJ_START_PARTS_H

#include "start_calls.h"

#include <blockjob/blockjob.h>
#include <stdio.h>

enum string {
    DISK,
    TARGET,
    TARGET_TYPE,
    FORMAT,
    BASE,
    TOP,
    XML,
    CHECKPOINT_XML,
    MODE,
    SERVER,
    INCREMENTAL,
    CHECKPOINT,
    STRINGS
};
enum { NOT_KEPT = STRINGS };
enum number { BANDWIDTH, GRANULARITY, BUF_SIZE, NUMBERS };

struct start {
    const struct command *command;
    char *strings[STRINGS]; /* NULL: not given */
    unsigned long long numbers[NUMBERS];
    const char *number_names[NUMBERS]; /* as which each was given; NULL: it was not */
    unsigned flags;
    unsigned given; /* those of the flags that were given, as true or as false */
    json_t *paths;  /* a backup by options: each disk's target or scratch file; else NULL */
    char *disks;    /* a backup, once it is prepared: those it is of, see disks_in_backup() */
};

struct command {
    const char *name;
    const char *type;
    const struct member *members;
    /* What no single member shows. As start_parse(); NULL: nothing. */
    int (*check)(struct start *start, struct text **ret_text);
    /* What the domain's disks show. As start_prepare(); NULL: nothing. */
    int (*prepare)(struct start *start, const struct disks *disks, struct text **ret_text);
    int (*call)(const struct start *start, virDomainPtr domain, const char *disk);
};

int start_refuse(int error, struct text *text, struct text **ret_text);

/* ------------------------------------------------------------------------ XML */

/* malloc'ed; NULL: no memory. */
char *start_write_xml(void (*write)(FILE *out, const void *user), const void *user);
void start_write_attribute(FILE *out, const char *name, const char *value);
void start_write_part(FILE *out, const char *name, const char *value, size_t len);
void start_write_element(FILE *out, const char *name, const char *text);
/* The end of <disk>. `element` is what libvirt calls the place: <source> of a copy, <target> or
 * <scratch> of a backup. */
void start_write_place(FILE *out, const struct start *start, const char *element, const char *path);

/* -------------------------------------------------------------------- backups */

int start_check_backup(struct start *start, struct text **ret_text);
int start_check_disk_backup(struct start *start, struct text **ret_text); /* blockdev-backup */
int start_prepare_backup(struct start *start, const struct disks *disks, struct text **ret_text);
int start_prepare_backup_xml(struct start *start, const struct disks *disks,
                             struct text **ret_text);
int start_call_backup(const struct start *start, virDomainPtr domain, const char *disk);

#endif
