/* SPDX-License-Identifier: MIT */
/*
 * The parts of a start that its commands share; see start_parts.h.
 */
#include "start_parts.h"

#include <stdlib.h>
#include <string.h>

int start_refuse(int error, struct text *text, struct text **ret_text)
{
    *ret_text = text;
    return error;
}

/* ------------------------------------------------------------------------ XML */

char *start_write_xml(void (*write)(FILE *out, const void *user), const void *user)
{
    char *xml = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&xml, &len);
    if (!out)
        return NULL;
    write(out, user);
    bool failed = ferror(out);
    if (fclose(out) == 0 && !failed)
        return xml;
    free(xml);
    return NULL;
}

/* libxml2's writer leaves out in silence what it has no memory for. */
static void write_text(FILE *out, const char *text, size_t len)
{
    for (const char *end = text + len; text < end; text++)
        (void)(strchr("<>&\"'\t\n\r", *text) ? fprintf(out, "&#%d;", *text) : fputc(*text, out));
}

void start_write_part(FILE *out, const char *name, const char *value, size_t len)
{
    (void)fprintf(out, " %s=\"", name);
    write_text(out, value, len);
    (void)fputc('"', out);
}

void start_write_attribute(FILE *out, const char *name, const char *value)
{
    start_write_part(out, name, value, strlen(value));
}

void start_write_element(FILE *out, const char *name, const char *text)
{
    (void)fprintf(out, "<%s>", name);
    write_text(out, text, strlen(text));
    (void)fprintf(out, "</%s>", name);
}

/* An element without content. */
static void write_empty(FILE *out, const char *name, const char *attribute, const char *value)
{
    (void)fprintf(out, "<%s", name);
    start_write_attribute(out, attribute, value);
    (void)fputs("/>", out);
}

void start_write_place(FILE *out, const struct start *start, const char *element, const char *path)
{
    const char *type = start->strings[TARGET_TYPE];
    const char *format = start->strings[FORMAT];
    bool is_block = type && strcmp(type, "block") == 0;

    start_write_attribute(out, "type", is_block ? "block" : "file");
    (void)fputc('>', out);
    write_empty(out, element, is_block ? "dev" : "file", path);
    if (format)
        write_empty(out, "driver", "type", format);
    (void)fputs("</disk>", out);
}
