/* SPDX-License-Identifier: MIT */
/*
 * Every order in which things can happen in a world, breadth first, with worlds that are alike
 * merged; see explore_search.h and docs/explorer.md.
 */
#include "explore_search.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOBODY UINT32_MAX
#define FINDINGS 8
#define PATH_MAX_STEPS 1024

/* One world that was seen: what is needed to tell it from others, and how it came about. */
struct node {
    uint64_t hash;
    uint32_t parent;
    struct step step;
    bool expanded;
};

/* Frozen worlds, one behind the other: how long it is, then it itself. */
struct level {
    unsigned char *bytes;
    size_t count, size, room;
};

/* `from` leads to `to`, both by number. */
struct edge {
    uint32_t from, to;
};

/* A rule that was broken: in a world that was seen, by a step from there, or when it was judged. */
struct finding {
    const char *rule;
    uint32_t number;
    bool by_step;
    struct step step;
    bool by_cut;
};

struct search {
    const struct explored *game;
    const struct scenario *scenario;
    struct world *world;           /* in which a step is taken */
    struct frozen *before, *after; /* where it began, and what it has led to */
    int acts;
    double until; /* on the clock of now() */
    size_t memory;

    struct node *nodes;
    size_t count, room;
    uint32_t *table; /* numbers of nodes, by hash; a power of two */
    size_t slots;
    struct edge *edges;
    size_t edge_count, edge_room;

    struct level level, next; /* those that were reached last, and are reached from them */
    uint32_t first;           /* the number of the first in `level`; the others follow */

    int depth;
    size_t transitions;  /* also those that lead to what was seen before, and the cuts */
    const char *stopped; /* why before it had seen all */

    struct finding findings[FINDINGS]; /* the shortest for each rule */
    int broken;
};

/* Of this process's own time: a busy machine makes the search slower, not shallower. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A test that has no memory has no verdict. */
static void *grow(void *memory, size_t *room, size_t size)
{
    *room = *room ? *room * 2 : 4096;
    void *grown = realloc(memory, *room * size);
    if (!grown) {
        fputs("explore: out of memory\n", stderr);
        exit(2);
    }
    return grown;
}

/* ----------------------------------------------------------------- hashing */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* Two worlds of ten million that are taken for one by mistake: 3 in a million. */
static uint64_t hash_of(const struct frozen *frozen, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)frozen;
    uint64_t hash = 0x9e3779b97f4a7c15u;

    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = size - at;
        memcpy(&word, bytes + at, left < sizeof word ? left : sizeof word);
        hash = mix(hash ^ word) + at;
    }
    return hash;
}

static void place(struct search *s, uint32_t number)
{
    size_t slot = (size_t)s->nodes[number].hash & (s->slots - 1);
    while (s->table[slot] != NOBODY)
        slot = (slot + 1) & (s->slots - 1);
    s->table[slot] = number;
}

static void widen(struct search *s)
{
    free(s->table);
    s->table = grow(NULL, &s->slots, sizeof *s->table);
    memset(s->table, 0xff, s->slots * sizeof *s->table);
    for (uint32_t i = 0; i < s->count; i++)
        place(s, i);
}

static uint32_t find(const struct search *s, uint64_t hash)
{
    size_t slot = (size_t)hash & (s->slots - 1);
    while (s->table[slot] != NOBODY && s->nodes[s->table[slot]].hash != hash)
        slot = (slot + 1) & (s->slots - 1);
    return s->table[slot];
}

/* ----------------------------------------------------------------- searching */

static void add_frozen(struct level *level, const struct frozen *frozen, size_t size)
{
    while (level->size + sizeof size + size > level->room)
        level->bytes = grow(level->bytes, &level->room, 1);
    memcpy(level->bytes + level->size, &size, sizeof size);
    memcpy(level->bytes + level->size + sizeof size, frozen, size);
    level->size += sizeof size + size;
    level->count++;
}

/* What lies there, and where the next one lies. */
static const unsigned char *take_frozen(const unsigned char *at, struct frozen *frozen)
{
    size_t size;
    memcpy(&size, at, sizeof size);
    memcpy(frozen, at + sizeof size, size);
    return at + sizeof size + size;
}

/* It is in `after`. */
static uint32_t add_node(struct search *s, size_t size, uint64_t hash, uint32_t parent,
                         struct step step)
{
    if (s->count * 2 >= s->slots)
        widen(s);
    if (s->count == s->room)
        s->nodes = grow(s->nodes, &s->room, sizeof *s->nodes);
    s->nodes[s->count] = (struct node){.hash = hash, .parent = parent, .step = step};
    add_frozen(&s->next, s->after, size);
    place(s, (uint32_t)s->count);
    return (uint32_t)s->count++;
}

static void add_edge(struct search *s, uint32_t from, uint32_t to)
{
    if (s->edge_count == s->edge_room)
        s->edges = grow(s->edges, &s->edge_room, sizeof *s->edges);
    s->edges[s->edge_count++] = (struct edge){.from = from, .to = to};
}

/* Breadth first: the first is the shortest. */
static void note(struct search *s, struct finding finding)
{
    for (int i = 0; i < s->broken; i++)
        if (strcmp(s->findings[i].rule, finding.rule) == 0)
            return;
    if (s->broken < FINDINGS)
        s->findings[s->broken++] = finding;
}

static void take_step(struct search *s, uint32_t number, struct step step)
{
    const struct explored *game = s->game;

    game->thaw(s->world, s->before, s->scenario);
    game->take(s->world, step);
    s->transitions++;
    const char *rule = game->broken(s->world);
    if (rule) {
        note(s, (struct finding){.rule = rule, .number = number, .by_step = true, .step = step});
        game->clear(s->world);
        return;
    }
    size_t size = game->freeze(s->world, s->after);
    game->clear(s->world);

    uint64_t hash = hash_of(s->after, size);
    uint32_t found = find(s, hash);
    if (found == NOBODY)
        found = add_node(s, size, hash, number, step);
    add_edge(s, number, found);
}

static void judge(struct search *s, uint32_t number, const struct step *steps, int count)
{
    const struct explored *game = s->game;

    game->judge(s->world, steps, count);
    if (game->broken(s->world)) {
        note(s, (struct finding){.rule = game->broken(s->world), .number = number});
        return;
    }
    game->cut(s->world);
    s->transitions++;
    if (game->broken(s->world))
        note(s, (struct finding){.rule = game->broken(s->world), .number = number, .by_cut = true});
}

/* It is in `before`. */
static void expand(struct search *s, uint32_t number)
{
    struct step steps[STEPS_MAX];

    s->game->thaw(s->world, s->before, s->scenario);
    int count = s->game->steps(s->world, steps);
    judge(s, number, steps, count);
    s->game->clear(s->world);
    for (int i = 0; i < count; i++)
        take_step(s, number, steps[i]);
    s->nodes[number].expanded = true;
}

static size_t memory_of(const struct search *s)
{
    return s->room * sizeof *s->nodes + s->slots * sizeof *s->table +
           s->edge_room * sizeof *s->edges + s->next.room + s->level.room;
}

static void search_level(struct search *s)
{
    const unsigned char *at = s->level.bytes;

    for (size_t i = 0; i < s->level.count && !s->stopped; i++) {
        at = take_frozen(at, s->before);
        expand(s, s->first + (uint32_t)i);
        if (i % 1024 == 0 && now() > s->until)
            s->stopped = "time";
        if (memory_of(s) > s->memory)
            s->stopped = "memory";
    }
}

static void next_level(struct search *s)
{
    struct level spare = s->level;

    s->first += (uint32_t)s->level.count;
    s->level = s->next;
    s->next = (struct level){.bytes = spare.bytes, .room = spare.room};
}

static void search_all(struct search *s)
{
    const struct explored *game = s->game;

    widen(s);
    game->begin(s->world, s->scenario, s->acts);
    size_t size = game->freeze(s->world, s->after);
    game->clear(s->world);
    add_node(s, size, hash_of(s->after, size), NOBODY, (struct step){0});
    next_level(s);
    s->first = 0;
    while (s->level.count > 0 && !s->stopped) {
        search_level(s);
        next_level(s);
        s->depth += s->level.count > 0;
    }
}

static void clear_search(struct search *s)
{
    free(s->nodes);
    free(s->table);
    free(s->edges);
    free(s->level.bytes);
    free(s->next.bytes);
}

/* ------------------------------------------------------------------- orders */

/* How many ways lead from the beginning to where nothing more happens: each node's number is added
 * to its successors' once all its predecessors have added to it. A node in a circle (a poll that
 * finds nothing new) is never that far; it stays out, and the number is a lower bound. */
struct orders {
    double count;
    bool at_least;
};

static struct orders count_orders(const struct search *s)
{
    double *ways = calloc(s->count, sizeof *ways);
    uint32_t *before = calloc(s->count + 1, sizeof *before);
    uint32_t *queue = calloc(s->count, sizeof *queue);
    size_t *begins = calloc(s->count + 2, sizeof *begins);
    struct orders orders = {0};
    size_t head = 0, tail = 0;

    if (!ways || !before || !queue || !begins) {
        fputs("explore: out of memory\n", stderr);
        exit(2);
    }
    for (size_t i = 0; i < s->edge_count; i++) {
        before[s->edges[i].to] += s->edges[i].to != s->edges[i].from;
        begins[s->edges[i].from + 1]++;
    }
    for (size_t i = 0; i < s->count; i++)
        begins[i + 1] += begins[i]; /* edges are in the order of `from` */
    ways[0] = 1;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t at = queue[head++];
        if (begins[at] == begins[at + 1])
            orders.count += ways[at];
        for (size_t i = begins[at]; i < begins[at + 1]; i++) {
            uint32_t to = s->edges[i].to;
            if (to == at)
                continue;
            ways[to] += ways[at];
            if (--before[to] == 0)
                queue[tail++] = to;
        }
    }
    orders.at_least = tail < s->count;
    free(ways);
    free(before);
    free(queue);
    free(begins);
    return orders;
}

/* ------------------------------------------------------------------ telling */

static int path_to(const struct search *s, uint32_t number, struct step *path)
{
    int length = 0;
    for (uint32_t at = number; s->nodes[at].parent != NOBODY; at = s->nodes[at].parent)
        length++;
    if (length > PATH_MAX_STEPS)
        return 0;
    int i = length;
    for (uint32_t at = number; s->nodes[at].parent != NOBODY; at = s->nodes[at].parent)
        path[--i] = s->nodes[at].step;
    return length;
}

static void tell_step(const struct explored *game, struct world *w, int number, struct step step)
{
    char text[160];
    printf("    %3d.  %s\n", number, game->step_text(w, step, text, sizeof text));
    game->listen(w, stdout);
    game->take(w, step);
}

/* As in the search, where what has a number may get another one. */
static void refreeze(const struct explored *game, struct world *w, struct frozen *frozen,
                     const struct scenario *scenario)
{
    game->freeze(w, frozen);
    game->clear(w);
    game->thaw(w, frozen, scenario);
}

static void tell_path(const struct search *s, const struct finding *finding)
{
    const struct explored *game = s->game;
    struct step path[PATH_MAX_STEPS];
    int length = path_to(s, finding->number, path);

    printf("  BROKEN: %s\n", finding->rule);
    game->begin(s->world, s->scenario, s->acts);
    for (int i = 0; i <= length; i++) {
        refreeze(game, s->world, s->after, s->scenario);
        if (i < length)
            tell_step(game, s->world, i + 1, path[i]);
    }
    if (finding->by_cut) {
        printf("    %3d.  the connection ends for good\n", length + 1);
        game->listen(s->world, stdout);
        game->cut(s->world);
    } else if (finding->by_step) {
        tell_step(game, s->world, length + 1, finding->step);
    } else {
        printf("          and nothing more happens by itself\n");
    }
    game->clear(s->world);
}

/* Its orders. */
static double tell(const struct search *s, double seconds)
{
    struct orders orders = count_orders(s);
    printf("%-58s %9zu states %10zu transitions  %s%8.2e orders  depth %2d  %5.1f s%s%s\n",
           s->game->name(s->scenario), s->count, s->transitions, orders.at_least ? ">" : " ",
           orders.count, s->depth, seconds, s->stopped ? "  stopped: " : "",
           s->stopped ? s->stopped : "");
    fflush(stdout);
    return orders.count;
}

/* ----------------------------------------------------------------- walking */

struct walk {
    const struct explored *game;
    const struct scenario *scenario;
    struct world *world;
    struct frozen *frozen;
    int acts;
    uint64_t dice;
    struct step path[PATH_MAX_STEPS];
    int length;
};

static int roll(struct walk *walk, int sides)
{
    walk->dice ^= walk->dice << 13;
    walk->dice ^= walk->dice >> 7;
    walk->dice ^= walk->dice << 17;
    return (int)((walk->dice >> 33) % (uint64_t)sides);
}

/* One of those that happen by themselves more often than not, so that the wire does not fill. */
static struct step pick(struct walk *walk, const struct step *steps, int count)
{
    int own = 0;
    while (own < count && walk->game->is_by_itself(steps[own]))
        own++;
    if (own > 0 && (own == count || roll(walk, 4) > 0))
        return steps[roll(walk, own)];
    return steps[own + roll(walk, count - own)];
}

static const char *take_walk(struct walk *walk)
{
    const struct explored *game = walk->game;
    struct world *w = walk->world;
    struct step steps[STEPS_MAX];

    walk->length = 0;
    game->begin(w, walk->scenario, walk->acts);
    while (!game->broken(w) && walk->length < PATH_MAX_STEPS) {
        refreeze(game, w, walk->frozen, walk->scenario);
        int count = game->steps(w, steps);
        game->judge(w, steps, count);
        if (game->broken(w) || count == 0)
            break;
        walk->path[walk->length] = pick(walk, steps, count);
        game->take(w, walk->path[walk->length++]);
    }
    if (!game->broken(w))
        game->cut(w);
    const char *broken = game->broken(w);
    game->clear(w);
    return broken;
}

static void tell_walk(const struct walk *walk, const char *broken)
{
    const struct explored *game = walk->game;

    printf("%s\n  BROKEN: %s\n", game->name(walk->scenario), broken);
    game->begin(walk->world, walk->scenario, walk->acts);
    for (int i = 0; i < walk->length; i++) {
        refreeze(game, walk->world, walk->frozen, walk->scenario);
        tell_step(game, walk->world, i + 1, walk->path[i]);
    }
    game->clear(walk->world);
}

/* The same walks for the same options. */
static int walk_scenario(struct walk *walk, int walks, size_t *steps)
{
    int broken = 0;

    for (int i = 0; i < walks; i++) {
        walk->dice = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);
        const char *rule = take_walk(walk);
        *steps += (size_t)walk->length;
        if (rule && broken++ == 0)
            tell_walk(walk, rule);
    }
    return broken;
}

/* -------------------------------------------------------------------- program */

struct options {
    int walks; /* 0: all orders */
    int depth;
    double seconds;
    size_t memory;
    const char *name;
};

struct totals {
    size_t states, transitions;
    double orders;
    int depth, broken, stopped;
};

struct room {
    struct world *world;
    struct frozen *frozen[2];
};

static void explore(const struct explored *game, const struct scenario *scenario, struct room room,
                    const struct options *options, double share, struct totals *totals)
{
    double begun = now();
    struct search s = {
        .game = game,
        .scenario = scenario,
        .world = room.world,
        .before = room.frozen[0],
        .after = room.frozen[1],
        .acts = options->depth,
        .until = begun + share,
        .memory = options->memory,
    };
    search_all(&s);
    totals->orders += tell(&s, now() - begun);
    for (int i = 0; i < s.broken; i++)
        tell_path(&s, &s.findings[i]);
    totals->broken += s.broken;
    totals->states += s.count;
    totals->transitions += s.transitions;
    totals->stopped += s.stopped != NULL;
    if (s.depth > totals->depth)
        totals->depth = s.depth;
    clear_search(&s);
}

static bool is_wanted(const struct explored *game, int number, const struct options *options)
{
    return !options->name || strstr(game->name(game->scenario(number)), options->name);
}

static int explore_all(const struct explored *game, struct room room, const struct options *options)
{
    struct totals totals = {0};
    double until = now() + options->seconds;
    int left = 0;

    for (int i = 0; i < game->scenario_count; i++)
        left += is_wanted(game, i, options);
    for (int i = 0; i < game->scenario_count; i++) {
        if (!is_wanted(game, i, options))
            continue;
        explore(game, game->scenario(i), room, options, (until - now()) / left, &totals);
        left--;
    }
    printf("total: %zu states, %zu transitions, %.2e orders, depth %d, %d acts from outside; "
           "%d stopped early, %d broken\n",
           totals.states, totals.transitions, totals.orders, totals.depth, options->depth,
           totals.stopped, totals.broken);
    bool saw_all = !options->name && options->depth >= 2 && totals.stopped == 0;
    int missed = game->report ? game->report() : 0;
    return totals.broken || (saw_all && missed) ? 1 : 0;
}

static int walk_all(const struct explored *game, struct room room, const struct options *options)
{
    size_t steps = 0;
    int broken = 0;

    for (int i = 0; i < game->scenario_count; i++) {
        struct walk walk = {
            .game = game,
            .scenario = game->scenario(i),
            .world = room.world,
            .frozen = room.frozen[0],
            .acts = options->depth,
        };
        if (is_wanted(game, i, options))
            broken += walk_scenario(&walk, options->walks, &steps);
    }
    printf("total: %zu steps in walks with %d acts from outside each; %d broken\n", steps,
           options->depth, broken);
    return broken ? 1 : 0;
}

static int list_scenarios(const struct explored *game)
{
    for (int i = 0; i < game->scenario_count; i++)
        puts(game->name(game->scenario(i)));
    return 0;
}

static int run(const struct explored *game, const struct options *options)
{
    struct room room = {calloc(1, game->world_size),
                        {calloc(1, game->frozen_size), calloc(1, game->frozen_size)}};
    if (!room.world || !room.frozen[0] || !room.frozen[1]) {
        fputs("explore: out of memory\n", stderr);
        exit(2);
    }
    int status =
        options->walks > 0 ? walk_all(game, room, options) : explore_all(game, room, options);
    free(room.world);
    free(room.frozen[0]);
    free(room.frozen[1]);
    return status;
}

int explore_main(int argc, char **argv, const struct explored *game)
{
    struct options options = {.depth = 2, .seconds = 20, .memory = (size_t)1 << 30};

    for (int c; (c = getopt(argc, argv, "d:s:m:w:lt")) != -1;) {
        if (c == 'd') {
            options.depth = (int)strtol(optarg, NULL, 10);
        } else if (c == 's') {
            options.seconds = strtod(optarg, NULL);
        } else if (c == 'm') {
            options.memory = (size_t)strtoul(optarg, NULL, 10) << 20;
        } else if (c == 'w') {
            options.walks = (int)strtol(optarg, NULL, 10);
        } else if (c == 'l') {
            return list_scenarios(game);
        } else if (c == 't' && game->print_tables) {
            game->print_tables();
            return 0;
        } else {
            fprintf(stderr, "usage: %s [-d DEPTH] [-s SECONDS] [-m MIB] [-w WALKS] [-l]%s [NAME]\n",
                    argv[0], game->print_tables ? " [-t]" : "");
            return 2;
        }
    }
    options.name = argv[optind];
    return run(game, &options);
}
