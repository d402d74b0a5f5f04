# SPDX-License-Identifier: MIT
# Builds, tests and installs libblockjob (GNU make). All that is made is under build/.
#
#   make                 the library, static and shared, its libvirt driver where libvirt is, and
#                        their pkg-config files
#   make demo            installs what is missing (root or sudo), shows the library on a real QEMU
#   make check           installs what is missing; the tests in C, Python and Go, real QEMU included
#   make check-c, check-python, check-go
#                        the tests in one language
#   make check-long      all that takes hours, step by step: a run that was stopped goes on where it
#                        was (.ci/long); the steps are the targets below, and more
#   make check-asan, check-tsan, check-race, check-valgrind
#                        the tests that need ASan and UBSan, TSan, Go's race detector, valgrind;
#                        LONG=1 runs all that can be run so; tests/tiers says which
#   make check-explore   every order of facts for the job machine, and for the tracker; DEPTH=3, SECONDS=60
#   make check-mutations the explorer on broken machines, each of which it must catch
#   make check-stress    two clients race each other, a third, and QEMU's death; the same on libvirt's
#                        domains, and libvirtd restarts; SECONDS=60 each, SEED=; migrations, ROUNDS=3
#   make check-traces    every transcript of tests/traces in every way; make check plays each in one
#   make check-matrix    the tests that run a real QEMU, on that of each Debian release (.ci/matrix)
#   make check-roots     builds on other Debian releases and as i386, runs the tests that need no other
#                        program; ROOTS='bullseye sid' (.ci/roots)
#   make check-libvirt-matrix
#                        the tests with a real libvirtd, on the libvirt and the QEMU of each Debian
#                        release; ROOTS='bullseye sid' (.ci/roots)
#   make check-nova      OpenStack's Nova with the patch of examples/nova, on real domains
#   make bench-nova      how long Nova's methods take without and with it
#   make check-fuzz      libFuzzer for FUZZ_SECONDS=60, with clang
#   make bench           the benchmarks
#   make check-instructions
#                        what events, connects, pivots and wake-ups cost, in instructions
#   make lint, format    what the linters say; lets the formatters write
#   make amalgamation    the library as one C file and one header, in build/amalgamation and for the
#                        Go modules, where it is committed: after each change of core
#   make check-embedded  builds of Go programs with the library inside: vendored, static, with musl,
#                        for arm64; and all tests of Go so (GO_TAGS=)
#   make install, uninstall
#                        PREFIX, BINDIR, LIBDIR, INCLUDEDIR, DATADIR, MANDIR and DESTDIR as usual
#   make python-install  the Python package into build/venv
#   make perl, check-perl, perl-install
#                        the Perl module in build/perl; its tests; into PERL_DIR
#   make examples, bench-programs, test-programs, libvirt-test-programs
#                        only builds them
#   make clean           removes build/
#
# Warnings are errors only with WERROR=-Werror: another compiler may know more of them than ours.
#
# New sources, tests, examples and benchmarks are found by their place; see the wildcards below.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
INSTALL ?= install
PYTHON ?= python3
PKG_CONFIG ?= pkg-config
CXX ?= c++
OBJCOPY ?= objcopy
CFLAGS ?= -O2 -g
BUILD ?= build
# SANITIZE=address,undefined builds everything with these; use a BUILD of its own.
SANITIZE ?=
# WERROR=-Werror, as CI has it, makes warnings errors.
WERROR ?=

version_part = $(shell sed -n 's/^.define BJ_VERSION_$(1) //p' core/include/blockjob/blockjob.h)
VERSION := $(call version_part,MAJOR).$(call version_part,MINOR).$(call version_part,PATCH)
SONAME := libblockjob.so.0
SHARED := $(BUILD)/libblockjob.so.$(VERSION)
STATIC := $(BUILD)/libblockjob.a
# For tests, which look inside: all names can be linked with.
CORE := $(BUILD)/core.a
LIBVIRT_SONAME := libblockjob-libvirt.so.0
LIBVIRT_SHARED := $(BUILD)/libblockjob-libvirt.so.$(VERSION)

warnings := -Wall -Wextra -Wshadow -Wconversion $(WERROR)
sanitize := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
# Times and file sizes of 64 bits also on 32-bit machines: nothing in the public headers depends on it.
defines := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64
compile = $(CC) -std=c11 $(defines) $(warnings) -pthread -Icore/include $(includes) \
	$(jansson_cflags) $(CPPFLAGS) $(CFLAGS) $(pic) $(sanitize) -MMD -MP -c -o $@ $<
link = $(CC) $(CFLAGS) $(sanitize) -pthread $(LDFLAGS) -o $@
# Silent where pkg-config itself is missing: .ci/dependencies reports that.
from_pkg_config = $(shell { $(PKG_CONFIG) $(1); } 2>/dev/null)
# Debian's libev has no pkg-config file. Asked for late: the dependencies may just have come.
jansson_cflags = $(call from_pkg_config,--cflags jansson)
# Before 2.34 glibc has dlopen() in a library of its own.
libraries = $(LDLIBS) -lev $(call from_pkg_config,--libs jansson) -lm -ldl
# The libvirt driver is left out, aloud, where these are not.
libvirt_needs := 'libvirt >= 7.0' 'libvirt-qemu >= 7.0' libxml-2.0
has_libvirt = $(call from_pkg_config,--exists $(libvirt_needs) && echo yes)
libvirt_cflags = $(call from_pkg_config,--cflags $(libvirt_needs))
libvirt_libraries = $(call from_pkg_config,--libs $(libvirt_needs))

headers := $(wildcard core/include/blockjob/*.h)
sources := $(wildcard core/src/*/*.c)
libvirt_sources := $(wildcard core/libvirt/*.c)
# What of the core it has copies of: see core/src/driver/module.h.
libvirt_shares := $(patsubst %,core/src/%.c,base/error base/loop base/process base/text \
	base/timer_heap driver/job_list)
support := $(wildcard tests/support/*.c)
libvirt_tests := $(if $(has_libvirt),$(wildcard tests/libvirt/test_*.c))
tests := $(wildcard tests/core/test_*.c tests/qemu/test_*.c) $(libvirt_tests)
stress_sources := $(wildcard tests/stress/*.c)
stress := $(BUILD)/tests/stress/stress
explorer_sources := $(wildcard tests/core/explore*.c)
explorer := $(BUILD)/tests/core/explore
tracker_explorer := $(BUILD)/tests/core/explore_tracker
fuzz_targets := $(wildcard tests/fuzz/fuzz_*.c)
examples := $(wildcard examples/c/*.c)
benches := $(wildcard bench/*.c)
libvirt_benches := $(if $(has_libvirt),$(wildcard bench/libvirt/*.c))
c_files := $(headers) $(sources) $(libvirt_sources) $(wildcard core/src/*/*.h core/libvirt/*.h tests/*/*.h bench/*.h) $(support) \
	$(tests) $(stress_sources) $(explorer_sources) $(fuzz_targets) tests/fuzz/replay.c \
	$(examples) $(benches) $(libvirt_benches)

objects := $(sources:%.c=$(BUILD)/%.o)
libvirt_objects := $(libvirt_sources:%.c=$(BUILD)/%.o)
support_objects := $(support:%.c=$(BUILD)/%.o)
replay_object := $(BUILD)/tests/fuzz/replay.o
replay_programs := $(fuzz_targets:%.c=$(BUILD)/%)
test_programs := $(tests:%.c=$(BUILD)/%) $(replay_programs)
example_programs := $(examples:%.c=$(BUILD)/%)
explorer_objects := $(explorer_sources:%.c=$(BUILD)/%.o)
tracker_explorer_objects := $(filter $(BUILD)/tests/core/explore_search% $(BUILD)/tests/core/explore_tracker%,$(explorer_objects))
machine_explorer_objects := $(filter-out $(BUILD)/tests/core/explore_tracker%,$(explorer_objects))
stress_objects := $(stress_sources:%.c=$(BUILD)/%.o)
bench_programs := $(benches:%.c=$(BUILD)/%)
libvirt_bench_programs := $(libvirt_benches:%.c=$(BUILD)/%)
all_objects := $(patsubst %.c,$(BUILD)/%.o,$(filter %.c,$(c_files)))

comma := ,
# make V=1 shows the commands.
quiet := $(if $(V),,@)
say = @$(if $(V),:,printf '  %-6s %s\n' '$(1)' '$(patsubst $(CURDIR)/%,%,$@)')

all: library

# ------------------------------------------------------------------------------------ library

library: $(STATIC) $(BUILD)/libblockjob.so $(BUILD)/$(SONAME) $(BUILD)/libblockjob.pc libvirt-driver

ifeq ($(has_libvirt),yes)
libvirt-driver: $(BUILD)/$(LIBVIRT_SONAME)
else
libvirt-driver:
	@echo '  the libvirt driver is left out: no libvirt >= 7.0, or no libxml2 (libvirt-dev, libxml2-dev)'
endif

$(all_objects): $(BUILD)/%.o: %.c Makefile | $(BUILD)/.dependencies
	$(call say,CC)
	@mkdir -p $(@D)
	$(quiet)$(compile)

$(objects) $(libvirt_objects): private pic := -fPIC
$(objects): private includes = -Icore/src
$(libvirt_objects): private includes = -Icore/src $(libvirt_cflags)
# Tests look inside; examples and benchmarks are users.
$(support_objects) $(stress_objects) $(explorer_objects) $(tests:%.c=$(BUILD)/%.o) \
	$(replay_programs:%=%.o) $(replay_object): \
	private includes = -Icore/src -Itests/support

$(libvirt_tests:%.c=$(BUILD)/%.o): private includes = -Icore/src -Icore/libvirt -Itests/support \
	-Itests/core $(libvirt_cflags)
$(libvirt_benches:%.c=$(BUILD)/%.o): private includes = $(libvirt_cflags)

# A bare make says what is missing; it installs nothing.
$(BUILD)/.dependencies: .ci/dependencies
	@mkdir -p $(@D)
	@.ci/dependencies --check build
	@touch $@

$(CORE): $(objects)
	$(call say,AR)
	@rm -f $@
	$(quiet)$(AR) rcs $@ $^

# One object, so that what only the library calls can be hidden: a program may use the same names.
# Without groups: of those the linker keeps one for all objects, and gcc's helpers for i386, which are
# in groups, are hidden, too.
whole_object := $(BUILD)/libblockjob.o
# It must be machine code, which clang makes of it anyhow.
without_lto = $(if $(findstring clang,$(CC)),,$(if $(findstring -flto,$(CFLAGS)),-flinker-output=nolto-rel))

$(STATIC): $(objects)
	$(call say,AR)
	@rm -f $@
	$(quiet)$(CC) $(CFLAGS) -r -nostdlib -Wl,--force-group-allocation $(without_lto) -o $(whole_object) $^
	$(quiet)$(OBJCOPY) --wildcard --keep-global-symbol='bj_*' $(whole_object)
	$(quiet)$(AR) rcs $@ $(whole_object)

$(SHARED): $(objects) core/libblockjob.map
	$(call say,LINK)
	$(quiet)$(link) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=core/libblockjob.map \
		-Wl,-z,defs,-z,relro,-z,now $(objects) $(libraries)

$(BUILD)/$(SONAME) $(BUILD)/libblockjob.so: $(SHARED)
	@ln -sf $(notdir $<) $@

$(LIBVIRT_SHARED): $(libvirt_objects) $(libvirt_shares:%.c=$(BUILD)/%.o) core/libblockjob-libvirt.map
	$(call say,LINK)
	$(quiet)$(link) -shared -Wl,-soname,$(LIBVIRT_SONAME) \
		-Wl,--version-script=core/libblockjob-libvirt.map \
		-Wl,-z,defs,-z,relro,-z,now,-z,nodelete \
		$(filter %.o,$^) $(libvirt_libraries) $(libraries)

$(BUILD)/$(LIBVIRT_SONAME): $(LIBVIRT_SHARED)
	@ln -sf $(notdir $<) $@

# write_pc PREFIX,LIBDIR,INCLUDEDIR
write_pc = sed -e 's|@PREFIX@|$(1)|' -e 's|@LIBDIR@|$(2)|' -e 's|@INCLUDEDIR@|$(3)|' \
	-e 's|@VERSION@|$(VERSION)|'

# For programs that are built against this tree: PKG_CONFIG_PATH=build.
$(BUILD)/libblockjob.pc: core/libblockjob.pc.in core/include/blockjob/blockjob.h Makefile
	@mkdir -p $(@D)
	@$(call write_pc,$(CURDIR),$(abspath $(BUILD)),$(CURDIR)/core/include) $< >$@

-include $(all_objects:.o=.d)

# ------------------------------------------------------------------------------- amalgamation

amalgamate = $(PYTHON) .ci/amalgamate --shares $(libvirt_shares)

amalgamation: amalgamation-only
	$(amalgamate) --go

amalgamation-only:
	$(amalgamate) -- $(BUILD)/amalgamation

# ------------------------------------------------------------------------------- installation

# Only what is installed where the run-time linker looks is news to it.
refresh_linker = case '$(DESTDIR)$(LIBDIR)' in \
	/usr/lib | /usr/lib/* | /usr/local/lib | /usr/local/lib/*) \
		test "$$(id -u)" != 0 || PATH="$$PATH:/sbin:/usr/sbin" ldconfig ;; esac

# A QMP server for the tests of others: docs/fakeqemu.md.
fakeqemu_files := docs/fakeqemu.md $(filter-out tests/fakeqemu/test_% %/qmpclient.py %/retell.py \
	%/scenarios.py,$(wildcard tests/fakeqemu/*.py))
fakeqemu_folder = $(DATADIR)/libblockjob/fakeqemu

# manuals SECTION
manuals = $(wildcard docs/man/*.$(1))

install: library
	$(INSTALL) -d '$(DESTDIR)$(INCLUDEDIR)/blockjob' '$(DESTDIR)$(LIBDIR)/pkgconfig'
	$(INSTALL) -m 644 $(headers) '$(DESTDIR)$(INCLUDEDIR)/blockjob'
	$(INSTALL) -m 644 $(STATIC) '$(DESTDIR)$(LIBDIR)'
	$(INSTALL) -m 755 $(SHARED) '$(DESTDIR)$(LIBDIR)'
	ln -sf $(notdir $(SHARED)) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libblockjob.so'
	$(call write_pc,$(PREFIX),$(LIBDIR),$(INCLUDEDIR)) core/libblockjob.pc.in \
		>'$(DESTDIR)$(LIBDIR)/pkgconfig/libblockjob.pc'
ifeq ($(has_libvirt),yes)
	$(INSTALL) -m 755 $(LIBVIRT_SHARED) '$(DESTDIR)$(LIBDIR)'
	ln -sf $(notdir $(LIBVIRT_SHARED)) '$(DESTDIR)$(LIBDIR)/$(LIBVIRT_SONAME)'
	$(call write_pc,$(PREFIX),$(LIBDIR),$(INCLUDEDIR)) core/libblockjob-libvirt.pc.in \
		>'$(DESTDIR)$(LIBDIR)/pkgconfig/libblockjob-libvirt.pc'
endif
	$(INSTALL) -d '$(DESTDIR)$(fakeqemu_folder)' '$(DESTDIR)$(BINDIR)'
	$(INSTALL) -m 644 $(fakeqemu_files) '$(DESTDIR)$(fakeqemu_folder)'
	chmod 755 '$(DESTDIR)$(fakeqemu_folder)/fakeqemu.py'
	ln -sf '$(fakeqemu_folder)/fakeqemu.py' '$(DESTDIR)$(BINDIR)/blockjob-fakeqemu'
	$(INSTALL) -d '$(DESTDIR)$(MANDIR)/man1' '$(DESTDIR)$(MANDIR)/man3'
	$(INSTALL) -m 644 $(call manuals,1) '$(DESTDIR)$(MANDIR)/man1'
	$(INSTALL) -m 644 $(call manuals,3) '$(DESTDIR)$(MANDIR)/man3'
	@$(refresh_linker)

uninstall:
	rm -f $(patsubst %,'$(DESTDIR)$(INCLUDEDIR)/blockjob/%',$(notdir $(headers)))
	rm -f '$(DESTDIR)$(LIBDIR)/libblockjob.a' '$(DESTDIR)$(LIBDIR)/libblockjob.so' \
		'$(DESTDIR)$(LIBDIR)/$(SONAME)' '$(DESTDIR)$(LIBDIR)/$(notdir $(SHARED))' \
		'$(DESTDIR)$(LIBDIR)/pkgconfig/libblockjob.pc'
	rm -f '$(DESTDIR)$(LIBDIR)/$(LIBVIRT_SONAME)' '$(DESTDIR)$(LIBDIR)/$(notdir $(LIBVIRT_SHARED))' \
		'$(DESTDIR)$(LIBDIR)/pkgconfig/libblockjob-libvirt.pc'
	rm -f '$(DESTDIR)$(BINDIR)/blockjob-fakeqemu'
	rm -f $(patsubst docs/man/%,'$(DESTDIR)$(MANDIR)/man1/%',$(call manuals,1)) \
		$(patsubst docs/man/%,'$(DESTDIR)$(MANDIR)/man3/%',$(call manuals,3))
	rm -rf '$(DESTDIR)$(fakeqemu_folder)'
	test ! -d '$(DESTDIR)$(DATADIR)/libblockjob' || rmdir '$(DESTDIR)$(DATADIR)/libblockjob'
	test ! -d '$(DESTDIR)$(INCLUDEDIR)/blockjob' || rmdir '$(DESTDIR)$(INCLUDEDIR)/blockjob'
	@$(refresh_linker)

# ---------------------------------------------------------------------------- programs in C

# A fuzz target is given its corpus here; see check-fuzz.
$(replay_programs): $(replay_object)
$(test_programs): %: %.o $(support_objects) $(CORE)
	$(call say,LINK)
	$(quiet)$(link) $^ -lcmocka $(libraries)

# The core that they contain finds the driver as a program's would.
libvirt_programs := $(libvirt_tests:%.c=$(BUILD)/%)
$(libvirt_programs): private libraries += $(libvirt_libraries) -Wl,-rpath,$(abspath $(BUILD))
$(libvirt_programs): | $(BUILD)/$(LIBVIRT_SONAME)
# What looks inside the driver has the units of it that it looks at.
libvirt_units = $(patsubst %,$(BUILD)/core/libvirt/%.o,$(1))
$(BUILD)/tests/libvirt/test_pool: $(call libvirt_units,mailbox pool)
$(BUILD)/tests/libvirt/test_service: $(call libvirt_units,service)
$(BUILD)/tests/libvirt/test_disks: $(call libvirt_units,disks)
$(BUILD)/tests/libvirt/test_facts: $(call libvirt_units,backup_run facts facts_qemu)
$(BUILD)/tests/libvirt/test_backup_run: $(call libvirt_units,backup_run facts facts_qemu)
$(BUILD)/tests/libvirt/test_copies: $(call libvirt_units,copies disks)
$(BUILD)/tests/libvirt/test_verdict: $(call libvirt_units,verdict)
$(BUILD)/tests/libvirt/test_calls: $(call libvirt_units,backup_run calls disks facts facts_qemu start_backup start_calls start_parts verdict)
$(BUILD)/tests/libvirt/test_start_calls: $(call libvirt_units,disks start_backup start_calls start_parts)
$(BUILD)/tests/libvirt/test_uri: $(call libvirt_units,uri)
$(BUILD)/tests/libvirt/test_units: $(call libvirt_units,backup_run copies disks facts facts_qemu start_backup start_calls start_parts)

$(stress): $(stress_objects) $(support_objects) $(CORE)
	$(call say,LINK)
	$(quiet)$(link) $^ -lcmocka $(libraries)

# It counts which rows of the tables it has reached.
counted_tables := $(BUILD)/tests/core/counted_tables.o
$(counted_tables): core/src/model/tables.c Makefile | $(BUILD)/.dependencies
	$(call say,CC)
	@mkdir -p $(@D)
	$(quiet)$(compile)
$(counted_tables): private defines += -DCOUNT_ROWS
$(counted_tables): private includes = -Icore/src

$(explorer): $(machine_explorer_objects) $(counted_tables) $(CORE)
$(tracker_explorer): $(tracker_explorer_objects) $(CORE)
$(explorer) $(tracker_explorer):
	$(call say,LINK)
	$(quiet)$(link) $^ $(libraries)

# As a user links it, and to be run from here as it is.
$(example_programs): %: %.o $(BUILD)/libblockjob.so $(BUILD)/$(SONAME)
	$(call say,LINK)
	$(quiet)$(link) $< -L$(BUILD) -lblockjob -Wl,-rpath,$(abspath $(BUILD)) $(LDLIBS) -lev

$(bench_programs): %: %.o $(STATIC)
	$(call say,LINK)
	$(quiet)$(link) $^ $(libraries)

# Each is a user of libvirt or of the library, whose driver is found beside it.
$(libvirt_bench_programs): %: %.o $(BUILD)/libblockjob.so $(BUILD)/$(SONAME) $(BUILD)/$(LIBVIRT_SONAME)
	$(call say,LINK)
	$(quiet)$(link) $< -Wl,--as-needed -L$(BUILD) -lblockjob -Wl,-rpath,$(abspath $(BUILD)) \
		$(libvirt_libraries) $(LDLIBS)

# These look at each allocation (tests/core/heap.h).
heap_programs := $(patsubst %,$(BUILD)/tests/%,core/test_bounds core/test_hostile core/test_memory \
	libvirt/test_pool libvirt/test_service libvirt/test_units)
$(heap_programs): private override LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc realloc reallocarray strdup \
	free vasprintf asprintf tsearch)

examples: $(example_programs)
bench-programs: $(bench_programs) $(libvirt_bench_programs)
libvirt-test-programs: $(libvirt_programs)
test-programs: $(test_programs) $(stress) $(explorer) $(tracker_explorer)

# ------------------------------------------------------------------------------------- Python

venv := $(BUILD)/venv
pip = $(venv)/bin/python -m pip --disable-pip-version-check
demo_tools := 'rich>=13'
test_tools := $(demo_tools) 'pytest>=7.4' 'uvloop>=0.17' 'eventlet>=0.33' 'gevent>=22.10'
lint_tools := 'ruff>=0.4' 'mypy>=1.8' 'basedpyright>=1.31' types-setuptools
python_sources = setup.py pyproject.toml $(headers) $(sources) $(libvirt_sources) \
	$(wildcard core/*.map core/libvirt/*.h core/src/*/*.h bindings/*) $(shell find python -name '*.py' -o -name '*.pyi' -o -name py.typed)

$(venv)/bin/python:
	@.ci/dependencies python
	$(call say,VENV)
	$(quiet)$(PYTHON) -m venv $(venv)
	$(quiet)$(pip) install --quiet 'setuptools>=77'

# What a file that is no more has left in build/lib would be installed along.
$(venv)/.package: $(python_sources) | $(venv)/bin/python
	$(call say,PIP)
	@rm -rf build/lib.*
	$(quiet)$(pip) install --quiet --no-build-isolation --no-deps .
	@touch $@

# One pip at a time in an environment.
$(venv)/.%-tools: Makefile | $(venv)/.package
	$(call say,PIP)
	$(quiet)$(pip) install --quiet $($*_tools)
	@touch $@

# libvirt's own package, for the tests that share a connection with it; they are skipped without it.
# Of the version of the library: no other need fit.
libvirt_version = $(call from_pkg_config,--modversion libvirt)
$(venv)/.libvirt-python: Makefile | $(venv)/.test-tools
	$(call say,PIP)
	$(quiet)$(pip) install --quiet 'libvirt-python==$(libvirt_version)' \
		|| echo '  libvirt-python $(libvirt_version) could not be installed: its tests are skipped'
	@touch $@

python-install: $(venv)/.package

# OpenStack's Nova wants many packages in versions of its own, so it has an environment of its own.
# The second line is what its unit tests want.
nova_venv := $(BUILD)/nova
nova_tools := 'nova>=34,<35' 'libvirt-python==$(libvirt_version)' 'pytest>=7.4' 'setuptools>=77' \
	testtools oslotest requests-mock wsgi-intercept ddt

$(nova_venv)/.tools: Makefile
	@.ci/dependencies python
	$(call say,PIP)
	$(quiet)$(PYTHON) -m venv $(nova_venv)
	$(quiet)$(nova_venv)/bin/python -m pip --disable-pip-version-check install --quiet $(nova_tools)
	@touch $@

# As it was built for the tests; beside Nova's environment, as Nova must do without it, too.
$(nova_venv)/.package: $(nova_venv)/.tools $(venv)/.package
	@rm -rf $(nova_venv)/package
	@mkdir $(nova_venv)/package
	@cp -r $(venv)/lib/python3*/site-packages/blockjob $(nova_venv)/package/
	@touch $@
with_nova = $(with_tools) PATH="$(abspath $(nova_venv))/bin:$$PATH" PYTHONPATH=$(abspath $(nova_venv))/package

# --------------------------------------------------------------------------------------- Perl

# Nothing else needs it. PERL_DIR is where perl looks for modules of the system's administrator.
perl_room := $(BUILD)/perl
perl_built := $(perl_room)/auto/BlockJob/Core/Core.so
PERL ?= perl
PERL_DIR ?= $(shell $(PERL) -MConfig -e 'print $$Config{installsitearch}')
perl_flags = $(shell $(PERL) -MConfig -e 'print "$$Config{ccflags} $$Config{cccdlflags} -I$$Config{archlibexp}/CORE"')

$(perl_built): bindings/blockjob.i bindings/perl.swg perl/BlockJob.pm $(headers) $(BUILD)/libblockjob.so
	@.ci/dependencies perl
	$(call say,SWIG)
	@mkdir -p $(@D) $(perl_room)/BlockJob
	$(quiet)swig -perl5 -Wall -Werror -Icore/include -outdir $(perl_room)/BlockJob \
		-o $(perl_room)/core_wrap.c bindings/blockjob.i
	$(quiet)$(CC) -O2 $(perl_flags) -Icore/include -shared $(perl_room)/core_wrap.c -o $@ \
		-L$(BUILD) -lblockjob
	@cp perl/BlockJob.pm $(perl_room)

perl: $(perl_built)

check-perl: $(perl_built)
	@.ci/dependencies test perl
	@podchecker -warnings perl/BlockJob.pm
	$(quiet)LD_LIBRARY_PATH='$(abspath $(BUILD))' prove -I$(perl_room) -Itests/perl tests/perl

perl-install: $(perl_built)
	$(INSTALL) -d '$(DESTDIR)$(PERL_DIR)/auto/BlockJob/Core' '$(DESTDIR)$(PERL_DIR)/BlockJob'
	$(INSTALL) -m 755 $(perl_built) '$(DESTDIR)$(PERL_DIR)/auto/BlockJob/Core'
	$(INSTALL) -m 644 $(perl_room)/BlockJob/Core.pm '$(DESTDIR)$(PERL_DIR)/BlockJob'
	$(INSTALL) -m 644 perl/BlockJob.pm '$(DESTDIR)$(PERL_DIR)'

# ---------------------------------------------------------------------------------------- Go

# Our own tests use the library that was just built, not the copy in the Go modules; with GO_TAGS= they
# use that. Go does not see that a header outside of its packages has changed; it does see a changed
# flag.
GO_TAGS ?= libblockjob_system
go_flags = $(strip $(if $(GO),$(shell $(GO) env GOFLAGS)) $(if $(GO_TAGS),-tags=$(GO_TAGS)))
go_env = GOFLAGS='$(go_flags)' PKG_CONFIG_PATH='$(abspath $(BUILD))' \
	LD_LIBRARY_PATH='$(abspath $(BUILD))' CGO_CFLAGS='-O2 -g -DBLOCKJOB_HEADERS=$(firstword $(shell cat $(headers) | cksum))'
all_go_modules := go tests/go $(filter-out examples/kubevirt,$(patsubst %/go.mod,%,$(wildcard \
	examples/*/go.mod examples/*/*/go.mod bench/*/go.mod)))
GO = $(shell .ci/dependencies --go)

# These need libvirt's own module for Go, which is fetched once; empty where it can't be had.
libvirt_go_modules = $(if $(has_libvirt),$(shell cd go/libvirtjob && $(GO) mod download >/dev/null 2>&1 && \
	echo go/libvirtjob tests/go/libvirtjob examples/kubevirt))
no_libvirt_go = -- without tests/go/libvirtjob there is no libvirt, or libvirt.org/go/libvirt could not be fetched

# For what is run: the Python and the Go of this build come first.
with_tools = BUILD=$(BUILD) PATH="$(abspath $(venv))/bin:$(dir $(GO)):$$PATH" $(go_env)

# ------------------------------------------------------------------------------------- tests

# First a look at what is missing, then a second make: what the first one has found out about this
# machine (a Go, jansson's flags) may be different afterwards. It uses all processors.
again = --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

built := library examples
python_ready := $(built) $(venv)/.package $(venv)/.test-tools \
	$(if $(has_libvirt),$(venv)/.libvirt-python)
no_libvirt = $(if $(has_libvirt),,--without tests/libvirt 'no libvirt 7.0 or newer, or no libxml2')
no_libvirt_go = $(if $(libvirt_go_modules),,--without tests/go/libvirtjob \
	'no libvirt, or libvirt.org/go/libvirt could not be fetched')
# run_tests TIER and the first letters of paths: .ci/check, tests/tiers. JOBS programs side by side.
run_tests = @$(with_tools) $(PYTHON) .ci/check $(if $(JOBS),--jobs $(JOBS)) $(if $(LONG),--long) \
	$(no_libvirt) $(no_libvirt_go)

check check-c check-python check-go check-stress check-traces check-nova check-asan check-tsan \
check-race check-mutations:
	@.ci/dependencies test
	@$(MAKE) $(again) .$@

.check: $(python_ready) test-programs
	$(run_tests) check
.check-c: $(built) test-programs
	$(run_tests) check tests/core tests/qemu tests/libvirt tests/fuzz tests/stress
.check-python: $(python_ready)
	$(run_tests) check tests/python tests/fakeqemu tests/traces
.check-go: $(python_ready)
	$(run_tests) check tests/go
.check-embedded: $(python_ready)
	$(run_tests) --long embedded
	@$(MAKE) $(again) GO_TAGS= .check-go
.check-traces: $(python_ready)
	@BLOCKJOB_TRACES=all $(with_tools) $(PYTHON) .ci/check traces --long
.check-mutations: $(explorer) $(tracker_explorer) $(BUILD)/tests/core/test_group_plan
	$(run_tests) mutations

SECONDS ?= 60
ROUNDS ?= 3
.check-stress: $(stress) $(python_ready)
	$(stress) $(SECONDS) $(SEED)
	$(with_tools) PYTHONPATH=tests/python:tests/support:tests/fakeqemu $(venv)/bin/python tests/libvirt/stress.py $(SECONDS) $(SEED)
	$(with_tools) PYTHONPATH=tests/python:tests/support:tests/fakeqemu $(venv)/bin/python tests/libvirt/migrations.py $(ROUNDS)

# Programs with the library inside, and Go's tests so.
check-embedded:
	@.ci/dependencies foreign
	@$(MAKE) $(again) .check-embedded

# Nova comes from PyPI. Without libvirt that is said, and is no failure.
ifeq ($(has_libvirt),yes)
.check-nova: $(built) $(nova_venv)/.package
	@$(with_nova) $(PYTHON) .ci/check --long nova
else
.check-nova:
	@echo 'check-nova: skipped, no libvirt 7.0 or newer, or no libxml2'
endif

# On every QEMU that Debian has, or on those of MATRIX_SUITES: what runs a real one.
check-matrix:
	@.ci/dependencies matrix
	@$(MAKE) $(again) .check-matrix

.check-matrix: $(python_ready) test-programs
	@$(with_tools) BLOCKJOB_WITHOUT_LIBVIRT=1 PYTEST_ADDOPTS='-m qemu' .ci/matrix $(PYTHON) .ci/check matrix

# Builds in a root folder of each release; root only.
check-roots:
	@.ci/dependencies roots
	@.ci/roots core

# The same with libvirt and QEMU in them; root only.
check-libvirt-matrix:
	@.ci/dependencies roots
	@.ci/roots libvirt

# A sanitizer must see the whole program: each has a build of its own.
check-sanitize: check-asan check-tsan check-race

.check-asan:
	@ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:$$ASAN_OPTIONS \
	UBSAN_OPTIONS=print_stacktrace=1:$$UBSAN_OPTIONS \
		$(MAKE) $(again) BUILD=$(BUILD)/asan SANITIZE=address,undefined TIER=asan .check-tier
# TSan wants memory where this kernel's randomisation may not put it.
.check-tsan:
	@TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$(CURDIR)/.ci/tsan:$$TSAN_OPTIONS \
	CHECK_WRAPPER="$$(setarch -R true 2>/dev/null && echo setarch -R)" \
		$(MAKE) $(again) BUILD=$(BUILD)/tsan SANITIZE=thread TIER=tsan .check-tier
.check-race: $(python_ready)
	@GOTESTFLAGS=-race $(with_tools) $(PYTHON) .ci/check $(if $(LONG),--long) $(no_libvirt_go) race

# The C programs of TIER.
.check-tier: $(built) test-programs
	$(run_tests) $(TIER)

# Every order of facts for the job machine and for the tracker (docs/explorer.md), with so many acts
# from outside, within so many seconds each.
check-explore: $(explorer) $(tracker_explorer)
	$(explorer) -d $(or $(DEPTH),3) -s $(or $(SECONDS),60)
	$(tracker_explorer) -d $(or $(DEPTH),3) -s $(or $(SECONDS),60) -m 3000

check-valgrind:
	@.ci/dependencies valgrind
	@$(MAKE) $(again) .check-valgrind

# What is still reachable at the end is no leak: jansson and libev keep a little.
valgrind := valgrind --quiet --error-exitcode=99 --fair-sched=yes --leak-check=full \
	--errors-for-leak-kinds=definite,indirect,possible --show-leak-kinds=definite,indirect,possible

.check-valgrind:
	@CHECK_WRAPPER='$(valgrind)' $(MAKE) $(again) TIER=valgrind .check-tier

check-long:
	@.ci/dependencies lint valgrind matrix bench
	@.ci/long

# FUZZ_SECONDS over all targets; what is found is left in build/fuzz, and goes to tests/fuzz/corpus
# once it is mended. Only clang has libFuzzer.
FUZZ_SECONDS ?= 60
FUZZ_CC ?= clang

check-fuzz:
	@.ci/dependencies test
	@if command -v $(FUZZ_CC) >/dev/null; then \
		$(MAKE) $(again) BUILD=$(BUILD)/fuzz CC=$(FUZZ_CC) WERROR= \
			SANITIZE=address,undefined,fuzzer-no-link .check-fuzz; \
	else echo 'check-fuzz: skipped, there is no $(FUZZ_CC)'; fi

fuzz_programs := $(fuzz_targets:tests/fuzz/fuzz_%.c=$(BUILD)/%)
.check-fuzz: $(fuzz_programs)
	@tests/fuzz/run $(BUILD) $(FUZZ_SECONDS) $(fuzz_programs)
$(fuzz_programs): $(BUILD)/%: $(BUILD)/tests/fuzz/fuzz_%.o $(CORE)
	$(call say,LINK)
	$(quiet)$(link) -fsanitize=fuzzer $^ -lcmocka $(libraries)

# ---------------------------------------------------------------------------- demo and benchmarks

demo:
	@.ci/dependencies demo
	@$(MAKE) $(again) .demo

.demo: library examples $(venv)/.package $(venv)/.demo-tools
	@$(with_tools) examples/demo/run

bench:
	@.ci/dependencies bench
	@$(MAKE) $(again) .bench

bench_scripts = $(shell find bench -maxdepth 1 -type f -perm -100 | sort)
bench-nova: $(built) $(nova_venv)/.package
	@$(with_nova) python tests/nova/measure.py

.bench: library bench-programs $(venv)/.package
	@failed=; for script in $(bench_scripts); do \
		echo "---- $$script"; \
		$(with_tools) $$script || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

check-instructions:
	@.ci/dependencies valgrind
	@$(MAKE) $(again) .check-instructions

.check-instructions: $(BUILD)/bench/instructions
	@BUILD=$(BUILD) $(PYTHON) bench/instructions

# ---------------------------------------------------------------------------------- linters

python_folders := setup.py .ci/amalgamate .ci/check .ci/behaviours .ci/layers bench/instructions tests/support/libvirtd tests/support/qemu $(wildcard python tests bench examples)
go_folders := $(wildcard go tests/go examples bench)
clang_flags = -std=c11 -D_GNU_SOURCE -Icore/include -Icore/src -Icore/libvirt -Itests/support \
	-Itests/core $(jansson_cflags) $(libvirt_cflags)

# The demo builds its own program, as a user would.
linted := $(c_files) $(wildcard examples/demo/*.c)
linted_sources := $(filter %.c,$(linted))
linted_headers := $(sort $(filter %.h,$(linted)) $(wildcard core/libvirt/*.h core/src/*/*.h))

# Each linter is a target of its own, and at its end .ci/timed prints its name and its time: -j runs
# as many at a time as there are processors, -k the others where one fails, and -O keeps the output
# of each together. The Python tools come first: two pips must not write to one environment.
timed = $(quiet).ci/timed
processors := $(shell nproc)

lint:
	@.ci/dependencies lint
	@$(MAKE) $(again) -k .lint-tools; $(MAKE) $(again) -k -O .lint

.lint-tools: $(venv)/.package $(venv)/.lint-tools $(venv)/.test-tools

# Those that use one processor for long come first; clang-tidy, file by file, fills the gaps.
.lint: lint-python lint-go lint-cppcheck lint-format lint-layers lint-headers lint-tidy

lint-format:
	$(timed) clang-format clang-format --dry-run -Werror $(linted)

lint-layers:
	$(timed) layers $(PYTHON) .ci/layers

# Our users' compilers are not ours.
lint-headers: lint-headers-c lint-headers-c++
lint-headers-c:
	$(timed) 'headers as C99' $(CC) -std=c99 -pedantic $(warnings) -Werror -Icore/include -fsyntax-only -x c $(headers)
lint-headers-c++:
	$(timed) 'headers as C++11' $(CXX) -std=c++11 -pedantic -Wall -Wextra -Werror -fsyntax-only -x c++ $(headers)

# With -j, cppcheck sees calls from one file into another only by what it keeps in this directory;
# there it also finds what has not changed since. Other settings start it anew.
cppcheck_results := $(BUILD)/lint/cppcheck
$(cppcheck_results): Makefile .ci/cppcheck
	@rm -rf $@
	@mkdir -p $@

lint-cppcheck: $(cppcheck_results)
	$(timed) cppcheck cppcheck --quiet --std=c11 -D_GNU_SOURCE '-Dfail_msg(...)=abort()' \
		--enable=warning,style,performance,portability --inline-suppr \
		--suppressions-list=.ci/cppcheck --error-exitcode=1 -j$(processors) \
		--cppcheck-build-dir=$(cppcheck_results) -Icore/include \
		-Icore/src -Icore/libvirt -Itests/support -Itests/core $(linted_sources)

# A source that passed is checked again when it or any header has changed.
tidied := $(BUILD)/lint/tidy
lint-tidy:
	$(timed) clang-tidy $(MAKE) $(again) -k .tidied
.tidied: $(linted_sources:%=$(tidied)/%)
	@:

$(linted_sources:%=$(tidied)/%): $(tidied)/%: % $(linted_headers) .clang-tidy Makefile
	@mkdir -p $(@D)
	$(quiet)clang-tidy --quiet --warnings-as-errors='*' $< -- $(clang_flags) >$@.log 2>&1 || \
		{ cat $@.log; exit 1; }
	@touch $@

lint-python: lint-pyright-tests lint-mypy lint-pyright lint-ruff lint-ruff-format lint-behaviours
lint-pyright lint-pyright-tests lint-mypy lint-ruff lint-ruff-format: .lint-tools

# Both read pyproject.toml: the package, and all other Python by settings of its own.
pyright = $(venv)/bin/basedpyright --warnings --pythonpath $(venv)/bin/python
lint-pyright:
	$(timed) 'pyright package' $(pyright)
lint-pyright-tests:
	$(timed) 'pyright tests' $(pyright) --project tests/pyrightconfig.json

# Several runs, as modules of one name can't be in one: there are two conftest.py, two client.py, and
# the helpers are called like their clients.
mypy_package := setup.py python/blockjob tests/fakeqemu tests/python tests/traces tests/libvirt
mypy_programs := .ci/amalgamate .ci/check .ci/behaviours .ci/layers bench/instructions $(filter-out %/compute.py,$(wildcard tests/nova/*.py \
	bench/*.py examples/*/*.py))
lint-mypy:
	$(timed) mypy sh -c 'status=0; \
		MYPYPATH=tests/fakeqemu:tests/python:tests/support:tests/traces "$$0" $(mypy_package) || status=1; \
		MYPYPATH=tests/nova:tests/fakeqemu:tests/python:bench "$$0" --scripts-are-modules \
			$(mypy_programs) || status=1; \
		MYPYPATH=tests/embedding:tests/fakeqemu:tests/python:tests/support "$$0" tests/embedding || status=1; \
		for helper in libvirtd qemu; do \
			MYPYPATH=tests/support "$$0" tests/support/$$helper || status=1; done; \
		exit $$status' $(venv)/bin/mypy

lint-ruff:
	$(timed) 'ruff check' $(venv)/bin/ruff check --quiet $(python_folders)
lint-ruff-format:
	$(timed) 'ruff format' $(venv)/bin/ruff format --quiet --check $(python_folders)
lint-behaviours:
	$(timed) behaviours $(PYTHON) .ci/behaviours --check

lint-go: lint-go-modules lint-gofmt lint-generated lint-amalgamation

lint-gofmt:
	$(timed) gofmt sh -c 'unformatted=$$("$$0" -l $(go_folders)); \
		test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }' $(dir $(GO))gofmt
lint-generated:
	$(timed) 'generated Go' env PATH="$(dir $(GO)):$$PATH" go/internal/core/generate.sh --check

lint-amalgamation:
	$(timed) amalgamation $(amalgamate) --check

# Built by each Go anew: it can't read what a newer compiler writes.
staticcheck = $(abspath $(BUILD))/lint/staticcheck-$(shell .ci/dependencies --staticcheck)-$(shell $(GO) env GOVERSION)
.staticcheck:
	$(quiet)test -x $(staticcheck)/staticcheck || \
		GOBIN=$(staticcheck) $(GO) install honnef.co/go/tools/cmd/staticcheck@$(shell .ci/dependencies --staticcheck)

# The C code of the module go is compiled first, for all at once; what is wrong with it go vet says.
lint-go-modules: library .staticcheck
	-$(quiet)env -C go $(go_env) $(GO) build ./... 2>/dev/null
	$(quiet)$(MAKE) $(again) -k $(foreach module,$(all_go_modules) $(libvirt_go_modules),lint-vet/$(module) \
		lint-staticcheck/$(module))
lint-vet/%:
	$(timed) 'go vet $*' env -C $* $(go_env) $(GO) vet ./...
lint-staticcheck/%:
	$(timed) 'staticcheck $*' env -C $* $(go_env) PATH="$(dir $(GO)):$$PATH" $(staticcheck)/staticcheck ./...

format: $(venv)/.lint-tools
	clang-format -i $(linted)
	$(venv)/bin/ruff format --quiet $(python_folders)
	$(dir $(GO))gofmt -w $(go_folders)

clean:
	rm -rf $(BUILD)

.PHONY: all library amalgamation amalgamation-only libvirt-driver install uninstall examples bench-programs test-programs \
	libvirt-test-programs python-install perl check-perl perl-install \
	check check-c check-python check-go check-long check-stress check-explore check-mutations check-traces \
	check-embedded .check-embedded check-matrix check-roots check-libvirt-matrix check-nova bench-nova check-sanitize check-asan check-tsan check-race \
	check-valgrind check-fuzz check-instructions demo bench format clean \
	lint lint-format lint-layers lint-headers lint-headers-c lint-headers-c++ lint-cppcheck lint-tidy lint-python \
	lint-pyright lint-pyright-tests lint-mypy lint-ruff lint-ruff-format lint-behaviours lint-go lint-gofmt \
	lint-generated lint-amalgamation lint-go-modules .staticcheck .tidied .lint-tools \
	.check .check-c .check-python .check-go .check-stress .check-traces .check-matrix .check-nova \
	.check-asan .check-tsan .check-race .check-valgrind .check-tier .check-mutations .check-fuzz \
	.check-instructions .demo .bench .lint
.DELETE_ON_ERROR:
