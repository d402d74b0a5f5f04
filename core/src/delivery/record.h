/* SPDX-License-Identifier: MIT */
/*
 * What the pointers of a record, or of a future's result, lie in.
 */
#ifndef BJ_DELIVERY_RECORD_H
#define BJ_DELIVERY_RECORD_H

#include "base/text.h"

/* Something that a layer above knows, and knows again by its kind. */
struct value_kind {
    void (*ref)(void *data);   /* NULL: it is never shared */
    void (*unref)(void *data); /* any thread, without the context's lock; takes NULL */
};

struct value {
    const struct value_kind *kind; /* NULL: none */
    void *data;                    /* a reference */
};

static inline void value_ref(const struct value *value)
{
    if (value->kind)
        value->kind->ref(value->data);
}

static inline void value_clear(struct value *value)
{
    if (value->kind)
        value->kind->unref(value->data);
    *value = (struct value){0};
}

/* References; NULL is "". */
struct record_refs {
    struct text *name;
    struct text *text;
    struct value job;
};

static inline void record_refs_clear(struct record_refs *refs)
{
    refs->name = text_unref(refs->name);
    refs->text = text_unref(refs->text);
    value_clear(&refs->job);
}

#endif
