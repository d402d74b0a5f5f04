/* SPDX-License-Identifier: MIT */
/*
 * The address of a domain; see uri.h.
 */
#include "uri.h"

#include <blockjob/blockjob.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(digits, c | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* %20 and the like, in place. False: something that is no such. */
static bool decode(char *text)
{
    char *out = text;
    for (const char *in = text; *in; out++) {
        if (*in != '%') {
            *out = *in++;
            continue;
        }
        int high = hex_of(in[1]);
        int low = high < 0 ? -1 : hex_of(in[2]);
        if (low < 0 || (high == 0 && low == 0))
            return false;
        *out = (char)(high * 16 + low);
        in += 3;
    }
    *out = '\0';
    return true;
}

void domain_address_clear(struct domain_address *address)
{
    free(address->connection);
    free(address->name);
    *address = (struct domain_address){0};
}

/* Takes the options off the name. A question mark of the name itself is %3F. False: one that there
 * is not. */
static bool take_options(struct domain_address *address)
{
    char *options = strchr(address->name, '?');
    if (!options)
        return true;
    *options++ = '\0';
    address->is_read_only = true;
    return strcmp(options, "readonly") == 0;
}

/* NULL: nothing is. */
static const char *find_fault(struct domain_address *address)
{
    if (!take_options(address))
        return "has something else than ?readonly behind the domain's name: write a question mark "
               "of the name itself as %3F";
    if (!decode(address->name) || *address->name == '\0')
        return "names no domain: use the URI of a connection, # and the domain's name or UUID, as "
               "in qemu:///system#vm1";
    return NULL;
}

int domain_address_parse(const char *uri, struct domain_address *ret, const char **ret_why)
{
    static const char by_default[] = "libvirt:";
    bool is_default = strncmp(uri, by_default, strlen(by_default)) == 0;
    const char *hash = strrchr(uri, '#');
    const char *name = is_default ? uri + strlen(by_default) : hash ? hash + 1 : "";
    size_t connection = hash ? (size_t)(hash - uri) : 0;

    *ret = (struct domain_address){
        .connection = is_default ? NULL : strndup(uri, connection),
        .name = strdup(name),
    };
    int r = (is_default || ret->connection) && ret->name ? BJ_OK : BJ_E_NOMEM;
    *ret_why = r == BJ_OK ? find_fault(ret) : NULL;
    if (*ret_why)
        r = BJ_E_INVAL;
    if (r != BJ_OK)
        domain_address_clear(ret);
    return r;
}

/* ----------------------------------------------------------------- connections */

/* "//" and the host, or "": where a URI's authority begins. */
static const char *authority_of(const char *uri)
{
    const char *colon = strchr(uri, ':');
    return colon && strncmp(colon, "://", 3) == 0 ? colon + 3 : "";
}

/* As libvirt decides it: a scheme without a transport, and no host. */
bool uri_is_in_process(const char *uri)
{
    const char *path = authority_of(uri);
    size_t length = strcspn(path, "?#");

    if (strncmp(uri, "test:///", 8) == 0)
        return true;
    return strncmp(uri, "qemu:///", 8) == 0 && length == strlen("/embed") &&
           strncmp(path, "/embed", length) == 0;
}

/* libvirt ignores the case of these names. NULL: the URI has none of that name. */
static const char *find_parameter(const char *uri, const char *name)
{
    size_t length = strlen(name);
    const char *at = strchr(uri, '?');
    while (at && !(strncasecmp(at + 1, name, length) == 0 && strchr("=&;", at[1 + length])))
        at = strpbrk(at + 1, "&;");
    return at ? at + 1 : NULL;
}

static bool is_over_ssh(const char *uri)
{
    static const char transport[] = "+ssh://";
    size_t scheme = strcspn(uri, "+:");
    return strncmp(uri + scheme, transport, strlen(transport)) == 0;
}

char *uri_unattended(const char *uri)
{
    char *unattended;
    if (!is_over_ssh(uri) || find_parameter(uri, "no_tty"))
        return strdup(uri);
    const char *separator = strchr(uri, '?') ? "&" : "?";
    return asprintf(&unattended, "%s%sno_tty=1", uri, separator) < 0 ? NULL : unattended;
}
