/* SPDX-License-Identifier: MIT */
/*
 * The commands that start a backup; see start_parts.h.
 */
#include "start_parts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const struct start *start, const char *what, struct text **ret_text)
{
    return start_refuse(BJ_E_INVAL, text_printf("%s: %s", start->command->name, what), ret_text);
}

/* -------------------------------------------------------------------- options */

static bool pulls(const struct start *start)
{
    return start->strings[MODE] && strcmp(start->strings[MODE], "pull") == 0;
}

static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text && strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* Where the port is in HOST:PORT, which may be [HOST]:PORT. NULL: it is no such address. */
static const char *find_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    bool is_port = colon && colon > address && colon[1] &&
                   strspn(colon + 1, "0123456789") == strlen(colon + 1);
    return is_port ? colon + 1 : NULL;
}

static bool is_server(const char *server)
{
    const char *path = after(server, "unix:");
    const char *address = after(server, "tcp:");
    return path ? *path == '/' : address && find_port(address);
}

int start_check_backup(struct start *start, struct text **ret_text)
{
    const char *server = start->strings[SERVER];
    if (!pulls(start))
        return server ? refuse(start, "\"server\" is for \"mode\": \"pull\"", ret_text) : BJ_OK;
    if (!server)
        return refuse(start, "\"server\" is missing: a client pulls the backup from it", ret_text);
    if (!is_server(server))
        return refuse(start, "\"server\" must be unix:PATH or tcp:HOST:PORT", ret_text);
    return start->strings[FORMAT] ? refuse(start, "\"format\" is for \"mode\": \"push\"", ret_text)
                                  : BJ_OK;
}

int start_check_disk_backup(struct start *start, struct text **ret_text)
{
    if (*start->strings[TARGET] == '<')
        return refuse(start, "\"target\" must be a path; virDomainBackupBegin takes XML", ret_text);
    start->paths = json_pack("{ss}", start->strings[DISK], start->strings[TARGET]);
    return start->paths ? BJ_OK : BJ_E_NOMEM;
}

/* ------------------------------------------------------------------------ XML */

struct backup {
    const struct start *start;
    const struct disks *disks;
};

static void write_address(FILE *out, const char *address)
{
    const char *port = find_port(address);
    size_t len = (size_t)(port - 1 - address);
    bool has_brackets = *address == '[' && address[len - 1] == ']';

    start_write_part(out, "name", address + has_brackets, has_brackets ? len - 2 : len);
    start_write_attribute(out, "port", port);
}

static void write_server(FILE *out, const char *server)
{
    const char *path = after(server, "unix:");
    (void)fputs("<server", out);
    start_write_attribute(out, "transport", path ? "unix" : "tcp");
    if (path)
        start_write_attribute(out, "socket", path);
    else
        write_address(out, after(server, "tcp:"));
    (void)fputs("/>", out);
}

/* Disks that are not in the list are not backed up. */
static void write_backup(FILE *out, const void *user)
{
    const struct backup *backup = user;
    const struct start *start = backup->start;
    const char *incremental = start->strings[INCREMENTAL];
    const char *name;
    json_t *path;

    (void)fputs(pulls(start) ? "<domainbackup mode=\"pull\">" : "<domainbackup>", out);
    if (incremental)
        start_write_element(out, "incremental", incremental);
    if (pulls(start))
        write_server(out, start->strings[SERVER]);
    (void)fputs("<disks>", out);
    json_object_foreach(start->paths, name, path)
    {
        (void)fputs("<disk", out);
        start_write_attribute(out, "name", disks_find(backup->disks, name)->target);
        if (!incremental)
            start_write_attribute(out, "backupmode", "full");
        start_write_place(out, start, pulls(start) ? "scratch" : "target", json_string_value(path));
    }
    (void)fputs("</disks></domainbackup>", out);
}

/* Of the same disks. */
static void write_checkpoint(FILE *out, const void *user)
{
    const struct backup *backup = user;
    const char *name;
    json_t *path;

    (void)fputs("<domaincheckpoint>", out);
    start_write_element(out, "name", backup->start->strings[CHECKPOINT]);
    (void)fputs("<disks>", out);
    json_object_foreach(backup->start->paths, name, path)
    {
        (void)fputs("<disk", out);
        start_write_attribute(out, "name", disks_find(backup->disks, name)->target);
        (void)fputs(" checkpoint=\"bitmap\"/>", out);
    }
    (void)fputs("</disks></domaincheckpoint>", out);
}

static int refuse_disk(const struct start *start, const char *what, const char *name,
                       struct text **ret_text)
{
    return start_refuse(BJ_E_INVAL,
                        text_printf("%s: %s \"%.*s\"", start->command->name, what,
                                    text_fit(name, QUOTED_MAX), name),
                        ret_text);
}

/* A disk can be named in two ways, by its target and by its path. */
static bool is_named_before(const struct start *start, const struct disks *disks, const char *name)
{
    const struct disk *disk = disks_find(disks, name);
    const char *other;
    json_t *path;
    json_object_foreach(start->paths, other, path)
    {
        if (strcmp(other, name) == 0)
            return false;
        if (disks_find(disks, other) == disk)
            return true;
    }
    return false;
}

static int check_disks(const struct start *start, const struct disks *disks, struct text **ret_text)
{
    const char *name;
    json_t *path;
    json_object_foreach(start->paths, name, path)
    {
        if (!disks_find(disks, name))
            return refuse_disk(start, "the domain has no disk", name, ret_text);
        if (is_named_before(start, disks, name))
            return refuse_disk(start, "\"disks\" has twice the disk", name, ret_text);
    }
    return BJ_OK;
}

int start_prepare_backup(struct start *start, const struct disks *disks, struct text **ret_text)
{
    const struct backup backup = {start, disks};
    int r = check_disks(start, disks, ret_text);
    if (r != BJ_OK)
        return r;
    start->strings[XML] = start_write_xml(write_backup, &backup);
    if (start->strings[CHECKPOINT])
        start->strings[CHECKPOINT_XML] = start_write_xml(write_checkpoint, &backup);
    if (!start->strings[XML] || (start->strings[CHECKPOINT] && !start->strings[CHECKPOINT_XML]))
        return BJ_E_NOMEM;
    return disks_in_backup(disks, start->strings[XML], &start->disks);
}

/* --------------------------------------------------------------- libvirt's XML */

/* libvirt makes no job on a disk that the XML leaves out, and does not object to it. */
static int check_disk(const struct start *start, const struct disks *disks, struct text **ret_text)
{
    const char *name = start->strings[DISK];
    const struct disk *disk = name ? disks_find(disks, name) : NULL;
    if (!name || (disk && disks_list_has(start->disks, disk->target)))
        return BJ_OK;
    return refuse_disk(start, disk ? "\"backupxml\" leaves out the disk" : "the domain has no disk",
                       name, ret_text);
}

int start_prepare_backup_xml(struct start *start, const struct disks *disks, struct text **ret_text)
{
    int r = disks_in_backup(disks, start->strings[XML], &start->disks);
    if (r == BJ_E_PROTOCOL)
        return refuse(start, "\"backupxml\" is not a <domainbackup> in XML", ret_text);
    return r == BJ_OK ? check_disk(start, disks, ret_text) : r;
}

/* ----------------------------------------------------------------------- call */

int start_call_backup(const struct start *start, virDomainPtr domain, const char *disk)
{
    (void)disk; /* is in the XML */
    return virDomainBackupBegin(domain, start->strings[XML], start->strings[CHECKPOINT_XML],
                                start->flags);
}
