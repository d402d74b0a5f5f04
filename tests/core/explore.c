/* SPDX-License-Identifier: MIT */
/*
 * Every order in which facts can come to the job machine, breadth first, with worlds that are alike
 * merged; see docs/explorer.md.
 *
 *   explore [-d DEPTH] [-s SECONDS] [-m MIB] [-w WALKS] [-l] [-t] [NAME]
 *
 * DEPTH: how many things may come from outside. SECONDS: of the processor, for all scenarios
 * together. MIB: of memory, for one. NAME: part of the names of those that are wanted; -l lists
 * them. WALKS: not all orders, but so many by chance in each scenario, which can go deeper. -t
 * prints the machine's tables.
 */
#include "explore_tables.h"
#include "explore_world.h"

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
    const struct scenario *scenario;
    int acts;
    double until; /* on the clock of now() */
    size_t memory;

    struct node *nodes;
    size_t count, room;
    uint32_t *table; /* numbers of nodes, by hash; a power of two */
    size_t slots;
    struct edge *edges;
    size_t edge_count, edge_room;

    /* Those that were reached last, and those that are reached from them. */
    struct frozen *level, *next;
    size_t level_count, next_count, next_room, level_room;
    uint32_t first; /* the number of level[0]; the others follow */

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
static uint64_t hash_of(const struct frozen *frozen)
{
    const unsigned char *bytes = (const unsigned char *)frozen;
    uint64_t hash = 0x9e3779b97f4a7c15u;

    for (size_t at = 0; at < sizeof *frozen; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = sizeof *frozen - at;
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

static uint32_t add_node(struct search *s, const struct frozen *frozen, uint64_t hash,
                         uint32_t parent, struct step step)
{
    if (s->count * 2 >= s->slots)
        widen(s);
    if (s->count == s->room)
        s->nodes = grow(s->nodes, &s->room, sizeof *s->nodes);
    if (s->next_count == s->next_room)
        s->next = grow(s->next, &s->next_room, sizeof *s->next);
    s->nodes[s->count] = (struct node){.hash = hash, .parent = parent, .step = step};
    s->next[s->next_count++] = *frozen;
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

static void take_step(struct search *s, const struct frozen *frozen, uint32_t number,
                      struct step step)
{
    struct world w;
    struct frozen after;

    world_thaw(&w, frozen, s->scenario);
    world_do(&w, step);
    s->transitions++;
    if (w.broken) {
        note(s,
             (struct finding){.rule = w.broken, .number = number, .by_step = true, .step = step});
        world_clear(&w);
        return;
    }
    world_freeze(&w, &after);
    world_clear(&w);

    uint64_t hash = hash_of(&after);
    uint32_t found = find(s, hash);
    if (found == NOBODY)
        found = add_node(s, &after, hash, number, step);
    add_edge(s, number, found);
}

static void judge(struct search *s, struct world *w, uint32_t number, const struct step *steps,
                  int count)
{
    world_judge(w, steps, count);
    if (w->broken) {
        note(s, (struct finding){.rule = w->broken, .number = number});
        return;
    }
    world_cut(w);
    s->transitions++;
    if (w->broken)
        note(s, (struct finding){.rule = w->broken, .number = number, .by_cut = true});
}

static void expand(struct search *s, const struct frozen *frozen, uint32_t number)
{
    struct world w;
    struct step steps[STEPS_MAX];

    world_thaw(&w, frozen, s->scenario);
    int count = world_steps(&w, steps);
    judge(s, &w, number, steps, count);
    world_clear(&w);
    for (int i = 0; i < count; i++)
        take_step(s, frozen, number, steps[i]);
    s->nodes[number].expanded = true;
}

static size_t memory_of(const struct search *s)
{
    return s->room * sizeof *s->nodes + s->slots * sizeof *s->table +
           s->edge_room * sizeof *s->edges + (s->next_room + s->level_room) * sizeof *s->level;
}

static void search_level(struct search *s)
{
    for (size_t i = 0; i < s->level_count && !s->stopped; i++) {
        expand(s, &s->level[i], s->first + (uint32_t)i);
        if (i % 1024 == 0 && now() > s->until)
            s->stopped = "time";
        if (memory_of(s) > s->memory)
            s->stopped = "memory";
    }
}

static void next_level(struct search *s)
{
    struct frozen *spare = s->level;
    size_t spare_room = s->level_room;

    s->first += (uint32_t)s->level_count;
    s->level = s->next;
    s->level_room = s->next_room;
    s->level_count = s->next_count;
    s->next = spare;
    s->next_room = spare_room;
    s->next_count = 0;
}

static void search_all(struct search *s)
{
    struct world w;
    struct frozen frozen;

    widen(s);
    world_begin(&w, s->scenario, s->acts);
    world_freeze(&w, &frozen);
    world_clear(&w);
    add_node(s, &frozen, hash_of(&frozen), NOBODY, (struct step){0});
    next_level(s);
    s->first = 0;
    while (s->level_count > 0 && !s->stopped) {
        search_level(s);
        next_level(s);
        s->depth += s->level_count > 0;
    }
}

static void clear_search(struct search *s)
{
    free(s->nodes);
    free(s->table);
    free(s->edges);
    free(s->level);
    free(s->next);
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

static void tell_step(struct world *w, int number, struct step step)
{
    char text[160];
    printf("    %3d.  %s\n", number, world_step_text(w, step, text, sizeof text));
    w->log = stdout;
    world_do(w, step);
}

/* The world of a path is thawed after each step: seats are numbered as they were in the search. */
static void tell_path(const struct search *s, const struct finding *finding)
{
    struct step path[PATH_MAX_STEPS];
    struct world w;
    struct frozen frozen;
    int length = path_to(s, finding->number, path);

    printf("  BROKEN: %s\n", finding->rule);
    world_begin(&w, s->scenario, s->acts);
    for (int i = 0; i <= length; i++) {
        world_freeze(&w, &frozen);
        world_clear(&w);
        world_thaw(&w, &frozen, s->scenario);
        if (i < length)
            tell_step(&w, i + 1, path[i]);
    }
    if (finding->by_cut) {
        printf("    %3d.  the connection ends for good\n", length + 1);
        w.log = stdout;
        world_cut(&w);
    } else if (finding->by_step) {
        tell_step(&w, length + 1, finding->step);
    } else {
        printf("          and nothing more happens by itself\n");
    }
    world_clear(&w);
}

/* Its orders. */
static double tell(const struct search *s, double seconds)
{
    struct orders orders = count_orders(s);
    printf("%-58s %9zu states %10zu transitions  %s%8.2e orders  depth %2d  %5.1f s%s%s\n",
           s->scenario->name, s->count, s->transitions, orders.at_least ? ">" : " ", orders.count,
           s->depth, seconds, s->stopped ? "  stopped: " : "", s->stopped ? s->stopped : "");
    fflush(stdout);
    return orders.count;
}

/* ----------------------------------------------------------------- walking */

struct walk {
    const struct scenario *scenario;
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
    while (own < count && world_is_by_itself(steps[own]))
        own++;
    if (own > 0 && (own == count || roll(walk, 4) > 0))
        return steps[roll(walk, own)];
    return steps[own + roll(walk, count - own)];
}

/* Frozen and thawed as in the search, so that the seats have the same numbers. */
static void refreeze(struct world *w, const struct scenario *scenario)
{
    struct frozen frozen;
    FILE *log = w->log;

    world_freeze(w, &frozen);
    world_clear(w);
    world_thaw(w, &frozen, scenario);
    w->log = log;
}

static const char *take_walk(struct walk *walk)
{
    struct world w;
    struct step steps[STEPS_MAX];
    const char *broken = NULL;

    walk->length = 0;
    world_begin(&w, walk->scenario, walk->acts);
    while (!w.broken && walk->length < PATH_MAX_STEPS) {
        refreeze(&w, walk->scenario);
        int count = world_steps(&w, steps);
        world_judge(&w, steps, count);
        if (w.broken || count == 0)
            break;
        walk->path[walk->length] = pick(walk, steps, count);
        world_do(&w, walk->path[walk->length++]);
    }
    broken = w.broken;
    if (!broken) {
        world_cut(&w);
        broken = w.broken;
    }
    world_clear(&w);
    return broken;
}

static void tell_walk(const struct walk *walk, const char *broken)
{
    struct world w;

    printf("%s\n  BROKEN: %s\n", walk->scenario->name, broken);
    world_begin(&w, walk->scenario, walk->acts);
    for (int i = 0; i < walk->length; i++) {
        refreeze(&w, walk->scenario);
        tell_step(&w, i + 1, walk->path[i]);
    }
    world_clear(&w);
}

/* The same walks for the same options. */
static int walk_scenario(const struct scenario *scenario, int acts, int walks, size_t *steps)
{
    int broken = 0;

    for (int i = 0; i < walks; i++) {
        struct walk walk = {
            .scenario = scenario,
            .acts = acts,
            .dice = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1),
        };
        const char *rule = take_walk(&walk);
        *steps += (size_t)walk.length;
        if (rule && broken++ == 0)
            tell_walk(&walk, rule);
    }
    return broken;
}

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

static void explore(const struct scenario *scenario, const struct options *options, double share,
                    struct totals *totals)
{
    double begun = now();
    struct search s = {
        .scenario = scenario,
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

static bool is_wanted(const struct scenario *scenario, const struct options *options)
{
    return !options->name || strstr(scenario->name, options->name);
}

static int explore_all(const struct options *options)
{
    struct totals totals = {0};
    double until = now() + options->seconds;
    int left = 0;

    for (int i = 0; i < scenario_count; i++)
        left += is_wanted(&scenarios[i], options);
    for (int i = 0; i < scenario_count; i++) {
        if (!is_wanted(&scenarios[i], options))
            continue;
        explore(&scenarios[i], options, (until - now()) / left, &totals);
        left--;
    }
    printf("total: %zu states, %zu transitions, %.2e orders, depth %d, %d acts from outside; "
           "%d stopped early, %d broken\n",
           totals.states, totals.transitions, totals.orders, totals.depth, options->depth,
           totals.stopped, totals.broken);
    bool saw_all = !options->name && options->depth >= 2 && totals.stopped == 0;
    int missed = tables_report();
    return totals.broken || (saw_all && missed) ? 1 : 0;
}

static int walk_all(const struct options *options)
{
    size_t steps = 0;
    int broken = 0;

    for (int i = 0; i < scenario_count; i++)
        if (is_wanted(&scenarios[i], options))
            broken += walk_scenario(&scenarios[i], options->depth, options->walks, &steps);
    printf("total: %zu steps in walks with %d acts from outside each; %d broken\n", steps,
           options->depth, broken);
    return broken ? 1 : 0;
}

static void list_scenarios(void)
{
    for (int i = 0; i < scenario_count; i++)
        puts(scenarios[i].name);
}

int main(int argc, char **argv)
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
            list_scenarios();
            return 0;
        } else if (c == 't') {
            tables_print();
            return 0;
        } else {
            fputs("usage: explore [-d DEPTH] [-s SECONDS] [-m MIB] [-w WALKS] [-l] [-t] [NAME]\n",
                  stderr);
            return 2;
        }
    }
    options.name = argv[optind];
    world_open();
    int status = options.walks > 0 ? walk_all(&options) : explore_all(&options);
    world_close();
    return status;
}
