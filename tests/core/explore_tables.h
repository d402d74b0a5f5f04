/* SPDX-License-Identifier: MIT */
/* The machine's tables: as docs/machine.md shows them, and which rows a search has reached. */
#ifndef TESTS_EXPLORE_TABLES_H
#define TESTS_EXPLORE_TABLES_H

void tables_print(void);

/* Prints the rows that were not reached, and those that were although none can be; how many. */
int tables_report(void);

#endif
