/* SPDX-License-Identifier: MIT */
/*
 * Starting a libvirtd and its domains, and asking virsh.
 */
#include "libvirt.h"

#include "counts.h"
#include "process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_BYTES (4 * 1024 * 1024)
#define PATIENCE_S 120

static const char missing_script[] =
    "PATH=$PATH:/usr/sbin:/sbin; for p in libvirtd virsh "
    "qemu-system-x86_64; do command -v $p >/dev/null || exit; done";

/* The one libvirtd of this program: its script, and the folder that it is in. */
static struct {
    pid_t script;
    FILE *to;
    FILE *from;
    char folder[128];
    int domains; /* names are never used again */
} host;

static void read_answer(char *answer, size_t size)
{
    if (!fgets(answer, (int)size, host.from))
        fail_msg("tests/support/libvirtd did not answer (tests run in the top folder)");
    answer[strcspn(answer, "\n")] = '\0';
}

/* A qcow2 image full of data, to be copied. */
static void make_template(void)
{
    char command[512];
    snprintf(command, sizeof(command),
             "cd %s/disks && qemu-img create -q -f qcow2 full %d && chmod 666 full && "
             "qemu-io -f qcow2 -c 'write -q -P 7 0 %d' full",
             host.folder, DISK_BYTES, DISK_BYTES);
    assert_int_equal(system(command), 0);
}

static int host_begin(void **state)
{
    (void)state;
    int in[2];
    int out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    host.script = fork();
    assert_true(host.script >= 0);
    if (host.script == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl("tests/support/libvirtd", "libvirtd", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    host.to = fdopen(in[1], "w");
    host.from = fdopen(out[0], "r");
    assert_true(host.to && host.from);
    read_answer(host.folder, sizeof(host.folder));
    make_template();
    return 0;
}

static int host_end(void **state)
{
    (void)state;
    fclose(host.to);
    waitpid(host.script, NULL, 0);
    fclose(host.from);
    return 0;
}

int run_tests_on_libvirt(const char *name, const struct CMUnitTest *tests, size_t count)
{
    if (system(missing_script) != 0) {
        print_message("there is no libvirtd, no virsh or no QEMU\n");
        print_message("[  SKIPPED ] %zu test(s).\n", count);
        return 0;
    }
    return _cmocka_run_group_tests(name, tests, count, host_begin, host_end);
}

static void tell_host(const char *command)
{
    char answer[16];
    fprintf(host.to, "%s\n", command);
    fflush(host.to);
    read_answer(answer, sizeof(answer));
    assert_string_equal(answer, "ok");
}

void kill_libvirtd(void)
{
    tell_host("kill");
}

void stop_libvirtd(void)
{
    tell_host("stop");
}

void start_libvirtd(void)
{
    tell_host("start");
}

static pid_t read_pid(const char *path)
{
    FILE *file = fopen(path, "re");
    int pid = 0;
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

void signal_libvirtd(int number)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/run/libvirt/libvirtd.pid", host.folder);
    assert_int_equal(kill(read_pid(path), number), 0);
}

const char *host_uri(void)
{
    static char uri[256];
    snprintf(uri, sizeof(uri), "qemu+unix:///session?socket=%s/run/libvirt/libvirt-sock",
             host.folder);
    return uri;
}

const char *domain_uri(world *w, const char *fragment)
{
    return text_of(w, "%s#%s", host_uri(), fragment);
}

/* -------------------------------------------------------------------- virsh */

/* What the shell's command prints. */
static int run(world *w, const char *command, const char **ret_output)
{
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    char output[4096];
    size_t length = fread(output, 1, sizeof(output) - 1, pipe);
    while (length > 0 && output[length - 1] == '\n')
        length--;
    output[length] = '\0';
    *ret_output = text_of(w, "%s", output);
    return pclose(pipe);
}

static void run_well(world *w, const char *command)
{
    const char *output;
    if (run(w, command, &output) != 0)
        fail_msg("%s: %s", command, output);
}

static int run_virsh(world *w, const char *format, va_list arguments, const char **ret_output)
{
    char words[2048];
    int length = vsnprintf(words, sizeof(words), format, arguments);
    assert_true(length >= 0 && (size_t)length < sizeof(words));
    const char *command =
        text_of(w, "exec 2>&1 </dev/null; virsh -q -c '%s' %s", host_uri(), words);
    return run(w, command, ret_output);
}

const char *virsh(world *w, const char *format, ...)
{
    const char *output;
    va_list arguments;
    va_start(arguments, format);
    int status = run_virsh(w, format, arguments, &output);
    va_end(arguments);
    if (status != 0)
        fail_msg("virsh: %s: %s", format, output);
    return output;
}

bool try_virsh(world *w, const char *format, ...)
{
    const char *output;
    va_list arguments;
    va_start(arguments, format);
    int status = run_virsh(w, format, arguments, &output);
    va_end(arguments);
    return status == 0;
}

/* ------------------------------------------------------------------- images */

const char *image_path(world *w, const char *name)
{
    return text_of(w, "%s/disks/%s-%s", host.folder, domain_of(w)->name, name);
}

const char *empty_image(world *w, const char *name)
{
    const char *path = image_path(w, name);
    run_well(
        w, text_of(w, "qemu-img create -q -f qcow2 %s %d && chmod 666 %s", path, DISK_BYTES, path));
    return path;
}

bool same_image(world *w, const char *one, const char *other)
{
    const char *output;
    return run(w, text_of(w, "qemu-img compare -q -U %s %s", one, other), &output) == 0;
}

const char *snapshot_vda(world *w, const char *name)
{
    const char *path = image_path(w, name);
    virsh(w,
          "snapshot-create-as %s --disk-only --no-metadata "
          "--diskspec vda,snapshot=external,file=%s --diskspec vdb,snapshot=no",
          domain_of(w)->name, path);
    return path;
}

/* Its pid file is there once it serves. */
const char *network_store(world *w, bool failing)
{
    const char *file = image_path(w, "store.raw");
    const char *socket_path = image_path(w, "store.sock");
    const char *pid_file = path_of(w, "store.pid");
    assert_int_equal(w->server, 0);
    run_well(w, text_of(w, "truncate -s %d %s", DISK_BYTES, file));

    const char *const argv[] = {
        "qemu-storage-daemon",
        "--blockdev",
        text_of(w, "driver=file,node-name=file,filename=%s", file),
        "--blockdev",
        failing ? "driver=blkdebug,node-name=store,image=file,inject-error.0.event=none,"
                  "inject-error.0.iotype=write,inject-error.0.errno=28"
                : "driver=raw,node-name=store,file=file",
        "--nbd-server",
        text_of(w, "addr.type=unix,addr.path=%s", socket_path),
        "--export",
        "type=nbd,id=store,node-name=store,writable=on",
        "--pidfile",
        pid_file,
        NULL,
    };
    w->server = process_start(argv, path_of(w, "store.log"), -1, -1, NULL);
    for (int i = 0; access(pid_file, F_OK) != 0; i++) {
        if (i == PATIENCE_S * 1000)
            fail_msg("qemu-storage-daemon did not start");
        usleep(1000);
    }
    assert_int_equal(chmod(socket_path, 0666), 0);
    return text_of(w,
                   "<disk type='network'><driver name='qemu' type='raw'/>"
                   "<source protocol='nbd' name='store'><host transport='unix' socket='%s'/>"
                   "</source></disk>",
                   socket_path);
}

/* ------------------------------------------------------------------ domains */

static const char domain_xml[] =
    "<domain type='qemu'><name>%s</name><memory unit='MiB'>16</memory>"
    "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='%s-vda'/><target dev='vda' bus='virtio'/></disk>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='%s-vdb'/><target dev='vdb' bus='virtio'/></disk>"
    "<memballoon model='none'/></devices></domain>";

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* It runs to the end of the program: while libvirtd clears up after one, which takes it a second or
 * two, it tells nothing of the others. */
domain *add_domain(world *w)
{
    domain *d = calloc(1, sizeof(*d));
    assert_non_null(d);
    snprintf(d->name, sizeof(d->name), "vm%d", ++host.domains);
    d->uri = domain_uri(w, d->name);
    world_keeps(w, d, free);

    const char *prefix = text_of(w, "%s/disks/%s", host.folder, d->name);
    const char *definition = text_of(w, "%s-definition.xml", prefix);
    run_well(w, text_of(w, "for t in vda vdb; do cp -p %s/disks/full %s-$t || exit; done",
                        host.folder, prefix));
    write_file(definition, text_of(w, domain_xml, d->name, prefix, prefix));
    virsh(w, "create %s --paused", definition);
    d->qemu = read_pid(text_of(w, "%s/run/libvirt/qemu/run/%s.pid", host.folder, d->name));
    return d;
}

domain *domain_of(world *w)
{
    assert_non_null(w->domain);
    return w->domain;
}

int world_domain_unconnected(void **state)
{
    world_alone(state);
    world *w = *state;
    w->domain = add_domain(w);
    return 0;
}

int world_domain(void **state)
{
    world_domain_unconnected(state);
    world *w = *state;
    w->monitor = connect_to(w, w->domain->uri);
    return 0;
}

static int count_sockets(void)
{
    int count = 0;
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++) {
        struct stat is;
        count += fstat(fd, &is) == 0 && S_ISSOCK(is.st_mode);
    }
    return count;
}

int fds_left_by_libvirt(int before)
{
    /* What the first monitor makes for the whole process, libvirt's event loop, is no leak. */
    static bool has_loop;
    for (int i = 0; i < 20 * 1000; i++) {
        if (count_sockets() == 0 && (!has_loop || count_fds() <= before))
            break;
        usleep(1000);
    }
    int left = count_sockets();
    if (has_loop)
        left = count_fds() - before;
    has_loop = true;
    return left;
}

static void signal_domain(const domain *d, int number)
{
    if (d->qemu > 0)
        kill(d->qemu, number);
}

void kill_domain(domain *d)
{
    signal_domain(d, SIGKILL);
    d->qemu = 0; /* soon another's */
}

void stop_domain(domain *d)
{
    signal_domain(d, SIGSTOP);
}

void go_on_domain(domain *d)
{
    signal_domain(d, SIGCONT);
}

const char *source_of(world *w, domain *d, const char *target)
{
    const char *list = virsh(w, "domblklist %s", d->name);
    char at[32];
    char source[512];
    for (const char *line = list; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (sscanf(line, "%31s %511s", at, source) == 2 && strcmp(at, target) == 0)
            return text_of(w, "%s", source);
    }
    fail_msg("%s has no %s", d->name, target);
    return "";
}

const char *mirror_of(world *w, domain *d, const char *target)
{
    const char *of_disk = virsh(w,
                                "dumpxml %s | sed -n '/<disk /h; /<disk /!H; "
                                "/<.disk>/{g; /<target dev=.%s./p}' | grep '<mirror' || true",
                                d->name, target);
    if (!strstr(of_disk, "<mirror"))
        return "none";
    return strstr(of_disk, "ready='yes'") ? "ready" : "running";
}

void await_mirror(world *w, domain *d, const char *target, const char *state)
{
    for (int i = 0; strcmp(mirror_of(w, d, target), state) != 0; i++) {
        if (i == PATIENCE_S * 100)
            fail_msg("%s of %s never was %s", target, d->name, state);
        usleep(10 * 1000);
    }
}
