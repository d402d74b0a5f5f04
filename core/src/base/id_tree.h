/* SPDX-License-Identifier: MIT */
/*
 * A search tree by text whose nodes lie in what they stand for: adding to it can't fail. A treap
 * whose ranks are hashes of the texts, so that its shape does not depend on who came first.
 */
#ifndef BJ_BASE_ID_TREE_H
#define BJ_BASE_ID_TREE_H

#include <stdint.h>

struct id_node {
    const char *id;
    uint32_t rank;
    struct id_node *left, *right;
};

struct id_node *id_tree_find(struct id_node *root, const char *id); /* NULL: none has it */
void id_tree_add(struct id_node **root, struct id_node *node, const char *id); /* nobody has it */
void id_tree_remove(struct id_node **root, struct id_node *node);              /* it is in there */

#endif
