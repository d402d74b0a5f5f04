/* SPDX-License-Identifier: MIT */
#include "base/id_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* FNV-1a, and mixed once more: similar ids are to get unlike ranks. */
static uint32_t rank_of(const char *id)
{
    uint32_t hash = 2166136261u;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    hash = (hash ^ hash >> 16) * 0x7feb352du;
    return hash ^ hash >> 15;
}

struct id_node *id_tree_find(struct id_node *root, const char *id)
{
    while (root) {
        int order = strcmp(id, root->id);
        if (order == 0)
            return root;
        root = order < 0 ? root->left : root->right;
    }
    return NULL;
}

void id_tree_add(struct id_node **root, struct id_node *node, const char *id)
{
    node->id = id;
    node->rank = rank_of(id);

    struct id_node **at = root;
    while (*at && (*at)->rank >= node->rank)
        at = strcmp(id, (*at)->id) < 0 ? &(*at)->left : &(*at)->right;

    /* What was there is split into what comes before the new node and what comes after it. */
    struct id_node *rest = *at, **before = &node->left, **after = &node->right;
    *at = node;
    while (rest) {
        bool is_before = strcmp(rest->id, id) < 0;
        struct id_node ***end = is_before ? &before : &after;
        **end = rest;
        *end = is_before ? &rest->right : &rest->left;
        rest = **end;
    }
    *before = *after = NULL;
}

void id_tree_remove(struct id_node **root, struct id_node *node)
{
    struct id_node **at = root;
    while (*at != node)
        at = strcmp(node->id, (*at)->id) < 0 ? &(*at)->left : &(*at)->right;

    struct id_node *left = node->left, *right = node->right;
    while (left && right) {
        bool left_first = left->rank >= right->rank;
        struct id_node **from = left_first ? &left : &right;
        *at = *from;
        at = left_first ? &(*from)->right : &(*from)->left;
        *from = *at;
    }
    *at = left ? left : right;
    node->left = node->right = NULL;
}
