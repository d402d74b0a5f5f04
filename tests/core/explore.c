/* SPDX-License-Identifier: MIT */
/*
 * Every order in which facts can come to the job machine; see docs/explorer.md.
 */
#include "explore_tables.h"
#include "explore_world.h"

static const struct scenario *scenario(int number)
{
    return &scenarios[number];
}

static const char *name(const struct scenario *scenario)
{
    return scenario->name;
}

static const char *broken(const struct world *world)
{
    return world->broken;
}

static void listen(struct world *world, FILE *log)
{
    world->log = log;
}

int main(int argc, char **argv)
{
    const struct explored explored = {
        .world_size = sizeof(struct world),
        .frozen_size = sizeof(struct frozen),
        .scenario_count = scenario_count,
        .scenario = scenario,
        .name = name,
        .begin = world_begin,
        .clear = world_clear,
        .freeze = world_freeze,
        .thaw = world_thaw,
        .is_by_itself = world_is_by_itself,
        .steps = world_steps,
        .take = world_do,
        .step_text = world_step_text,
        .judge = world_judge,
        .cut = world_cut,
        .broken = broken,
        .listen = listen,
        .report = tables_report,
        .print_tables = tables_print,
    };
    world_open();
    int status = explore_main(argc, argv, &explored);
    world_close();
    return status;
}
