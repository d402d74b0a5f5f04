/* SPDX-License-Identifier: MIT */
/*
 * What the core finds in this library; see driver/module.h.
 */
#include "domain.h"
#include "session.h"
#include "uri.h"

#include <blockjob/blockjob.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(number) #number
#define VERSION_OF(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

static int check(const char *uri, struct text **ret_text)
{
    struct domain_address address;
    const char *why;
    int r = domain_address_parse(uri, &address, &why);
    if (r == BJ_OK)
        domain_address_clear(&address);
    else
        *ret_text = why ? text_printf("%s %s", uri, why) : text_printf("%s", bj_error_text(r));
    return r;
}

/* The same letters as domain_address_parse() reads: what is odd as %20. */
static void append_encoded(char *out, const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._~";
    out += strlen(out);
    for (; *name; name++)
        out += strchr(plain, *name) ? sprintf(out, "%c", *name)
                                    : sprintf(out, "%%%02X", (unsigned char)*name);
}

static char *uri_of(struct _virDomain *domain)
{
    char *connection = virConnectGetURI(virDomainGetConnect(domain));
    const char *name = virDomainGetName(domain);
    if (!name)
        name = "?"; /* no domain at all: connecting will say so */
    size_t size = (connection ? strlen(connection) : 0) + strlen("libvirt:#") + 3 * strlen(name);
    char *uri = calloc(1, size + 1);
    if (uri) {
        strcpy(uri, connection ? connection : "libvirt:");
        if (connection)
            strcat(uri, "#");
        append_encoded(uri, name);
    }
    free(connection);
    return uri;
}

static void ref(struct _virDomain *domain)
{
    virDomainRef(domain);
}

extern const struct driver_module blockjob_driver_module;
const struct driver_module blockjob_driver_module = {
    .version = VERSION_OF(BJ_VERSION_MAJOR, BJ_VERSION_MINOR, BJ_VERSION_PATCH),
    .check = check,
    .uri_of = uri_of,
    .ref = ref,
    .unref = session_release_domain,
    .open = domain_open,
};
