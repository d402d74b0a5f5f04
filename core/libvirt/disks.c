/* SPDX-License-Identifier: MIT */
/*
 * A domain's disks, out of its XML; see disks.h.
 */
#include "disks.h"

#include <blockjob/blockjob.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------- nodes */

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

static const xmlNode *child_of(const xmlNode *node, const char *name)
{
    for (const xmlNode *child = node->children; child; child = child->next)
        if (is_element(child, name))
            return child;
    return NULL;
}

/* "" if it is not there. Belongs to the node. References to entities are left in a document, and
 * then this is none: no domain has them. */
static const char *attribute_of(const xmlNode *node, const char *name)
{
    const xmlAttr *attribute = xmlHasNsProp(node, (const xmlChar *)name, NULL);
    const xmlNode *text = attribute ? attribute->children : NULL;
    bool is_text = text && text->type == XML_TEXT_NODE && !text->next && text->content;
    return is_text ? (const char *)text->content : "";
}

static bool attribute_is(const xmlNode *node, const char *name, const char *value)
{
    return strcmp(attribute_of(node, name), value) == 0;
}

/* *ret is malloc'ed; NULL: it is not there, or empty. False: no memory. */
static bool copy_attribute(const xmlNode *node, const char *name, char **ret)
{
    const char *value = attribute_of(node, name);
    *ret = *value ? strdup(value) : NULL;
    return !*value || *ret;
}

/* --------------------------------------------------------------------- disks */

/* The attribute of <source> that says where it is. An nvme has none: it is a PCI address. */
static const struct {
    const char *type;
    const char *attribute;
} places[] = {
    {"file", "file"},     {"block", "dev"},      {"network", "name"},
    {"volume", "volume"}, {"vhostuser", "path"}, {"dir", "dir"},
};

/* Of a <disk> or a <mirror>: its own <source>, not one of what backs it. */
static bool read_source(const xmlNode *node, char **ret)
{
    const xmlNode *source = child_of(node, "source");
    *ret = NULL;
    if (!source)
        return true;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (attribute_is(node, "type", places[i].type))
            return copy_attribute(source, places[i].attribute, ret);
    return copy_attribute(source, "file", ret); /* the type of old */
}

/* Ready is "yes" once it is, and then what was done about it: "pivot" is taken of a ready one only,
 * "abort" of any. */
static bool read_mirror(const xmlNode *mirror, struct disk *disk)
{
    disk->has_mirror = true;
    disk->is_commit = attribute_is(mirror, "job", "active-commit");
    disk->mirror_ready =
        attribute_is(mirror, "ready", "yes") || attribute_is(mirror, "ready", "pivot");
    disk->is_ending =
        attribute_is(mirror, "ready", "pivot") || attribute_is(mirror, "ready", "abort");
    return read_source(mirror, &disk->mirror) &&
           (disk->mirror || copy_attribute(mirror, "file", &disk->mirror)); /* before 1.2.7 */
}

static void clear_disk(struct disk *disk)
{
    free(disk->target);
    free(disk->alias);
    free(disk->source);
    free(disk->mirror);
}

/* With a QEMU before 4.2 there are no node names, of which <source> has the index, and all jobs are
 * named by the alias. */
static bool read_alias(const xmlNode *node, struct disk *disk)
{
    const xmlNode *alias = child_of(node, "alias");
    const xmlNode *source = child_of(node, "source");
    bool has_nodes = source && *attribute_of(source, "index");
    return !alias || !has_nodes || copy_attribute(alias, "name", &disk->alias);
}

/* One without a target can have no job, and its target stays NULL. False: no memory. */
static bool read_disk(const xmlNode *node, struct disk *disk)
{
    const xmlNode *target = child_of(node, "target");
    const xmlNode *mirror = child_of(node, "mirror");

    *disk = (struct disk){0};
    if (!target)
        return true;
    bool is_read = copy_attribute(target, "dev", &disk->target) && read_alias(node, disk) &&
                   read_source(node, &disk->source) && (!mirror || read_mirror(mirror, disk));
    bool is_empty = !disk->source && !attribute_is(node, "type", "nvme");
    disk->is_backed_up = !is_empty && !child_of(node, "readonly");
    return is_read;
}

static size_t count_disks(const xmlNode *devices)
{
    size_t count = 0;
    for (const xmlNode *child = devices->children; child; child = child->next)
        count += is_element(child, "disk");
    return count;
}

static int read_disks(const xmlNode *devices, struct disks *disks)
{
    size_t count = count_disks(devices);
    disks->disks = calloc(count ? count : 1, sizeof *disks->disks);
    if (!disks->disks)
        return BJ_E_NOMEM;

    for (const xmlNode *child = devices->children; child; child = child->next) {
        struct disk *disk = &disks->disks[disks->count];
        if (!is_element(child, "disk"))
            continue;
        if (!read_disk(child, disk)) {
            clear_disk(disk);
            return BJ_E_NOMEM;
        }
        if (disk->target)
            disks->count++;
        else
            clear_disk(disk);
    }
    return BJ_OK;
}

/* ---------------------------------------------------------------------- text */

/* Instead of a sentence on stderr. */
#if LIBXML_VERSION >= 21200
static void note_error(void *user, const xmlError *error)
#else
static void note_error(void *user, xmlError *error)
#endif
{
    bool *no_memory = ((xmlParserCtxt *)user)->_private;
    *no_memory |= error->code == XML_ERR_NO_MEMORY;
}

/* Entities are left as they are, and nothing is fetched. The parser's own limits hold: no XML that
 * passed through libvirt's protocol is beyond them. */
static xmlDoc *parse_with(xmlParserCtxt *parser, const char *xml, size_t len, int *ret_error)
{
    bool no_memory = false;
    /* cppcheck-suppress autoVariables ; taken back below */
    parser->_private = &no_memory;
    parser->sax->serror = note_error;
    xmlResetLastError();
    xmlDoc *doc = xmlCtxtReadMemory(parser, xml, (int)len, NULL, NULL, XML_PARSE_NONET);

    const xmlError *last = xmlGetLastError(); /* of the tree, which does not know the parser */
    no_memory |= last && last->code == XML_ERR_NO_MEMORY;
    no_memory |= !doc && parser->errNo == XML_ERR_OK; /* the parser had not begun */
    *ret_error = no_memory ? BJ_E_NOMEM : doc ? BJ_OK : BJ_E_PROTOCOL;
    parser->_private = NULL;
    if (doc && no_memory)
        xmlFreeDoc(doc);
    return no_memory ? NULL : doc;
}

/* NULL: *ret_error says why; also if it is not about a `name`. */
static xmlDoc *parse(const char *xml, const char *name, int *ret_error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, xmlInitParser); /* which is not made for several threads at once */

    size_t len = strlen(xml);
    *ret_error = BJ_E_PROTOCOL;
    if (len == 0 || len > INT_MAX)
        return NULL;
    xmlParserCtxt *parser = xmlNewParserCtxt();
    *ret_error = BJ_E_NOMEM;
    xmlDoc *doc = parser ? parse_with(parser, xml, len, ret_error) : NULL;
    xmlFreeParserCtxt(parser);

    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    if (!doc || (root && is_element(root, name) && !doc->intSubset))
        return doc;
    xmlFreeDoc(doc);
    *ret_error = BJ_E_PROTOCOL;
    return NULL;
}

int disks_parse(const char *xml, struct disks *ret)
{
    int error;
    xmlDoc *doc = parse(xml, "domain", &error);
    if (!doc)
        return error;

    const xmlNode *devices = child_of(xmlDocGetRootElement(doc), "devices");
    struct disks disks = {0};
    if (devices)
        error = read_disks(devices, &disks);
    xmlFreeDoc(doc);
    if (error == BJ_OK)
        *ret = disks;
    else
        disks_clear(&disks);
    return error;
}

void disks_clear(struct disks *disks)
{
    for (size_t i = 0; i < disks->count; i++)
        clear_disk(&disks->disks[i]);
    free(disks->disks);
    free(disks->backup);
    *disks = (struct disks){0};
}

const struct disk *disks_find(const struct disks *disks, const char *name)
{
    const struct disk *found = NULL;

    for (size_t i = 0; i < disks->count; i++)
        if (strcmp(disks->disks[i].target, name) == 0)
            return &disks->disks[i];
    for (size_t i = 0; i < disks->count; i++) {
        const struct disk *disk = &disks->disks[i];
        if (!disk->source || strcmp(disk->source, name) != 0)
            continue;
        if (found)
            return NULL;
        found = disk;
    }
    return found;
}

/* -------------------------------------------------------------------- backups */

static const xmlNode *find_target(const xmlNode *list, const char *target)
{
    for (const xmlNode *child = list->children; child; child = child->next)
        if (is_element(child, "disk") && attribute_is(child, "name", target))
            return child;
    return NULL;
}

static bool is_in_backup(const xmlNode *list, const struct disk *disk)
{
    const xmlNode *found = list ? find_target(list, disk->target) : NULL;
    return list ? found && !attribute_is(found, "backup", "no") : disk->is_backed_up;
}

/* malloc'ed; NULL: no memory. */
static char *list_backup(const struct disks *disks, const xmlNode *list)
{
    size_t room = 1;
    for (size_t i = 0; i < disks->count; i++)
        room += strlen(disks->disks[i].target) + 1;

    char *text = malloc(room);
    char *end = text;
    for (size_t i = 0; text && i < disks->count; i++)
        if (is_in_backup(list, &disks->disks[i])) {
            end = stpcpy(end, disks->disks[i].target);
            *end++ = '\n';
        }
    if (text)
        *end = '\0';
    return text;
}

int disks_in_backup(const struct disks *disks, const char *xml, char **ret)
{
    int error;
    xmlDoc *doc = parse(xml, "domainbackup", &error);
    if (!doc)
        return error;
    *ret = list_backup(disks, child_of(xmlDocGetRootElement(doc), "disks"));
    xmlFreeDoc(doc);
    return *ret ? BJ_OK : BJ_E_NOMEM;
}

bool disks_list_has(const char *list, const char *target)
{
    size_t len = strlen(target);
    while (list && *list) {
        size_t line = strcspn(list, "\n");
        if (line == len && memcmp(list, target, len) == 0)
            return true;
        list += line + (list[line] == '\n');
    }
    return false;
}
