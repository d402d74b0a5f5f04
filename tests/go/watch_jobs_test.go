// SPDX-License-Identifier: MIT
// All jobs of a monitor on one channel.

package blockjob_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func watchJobs(t testing.TB, m *blockjob.Monitor, options blockjob.WatchJobsOptions) <-chan blockjob.JobChange {
	t.Helper()
	changes, err := m.WatchJobs(patience(t), options)
	ok(t, err)
	return changes
}

// nextChange returns the next one, which must be of that kind.
func nextChange(t testing.TB, changes <-chan blockjob.JobChange, kind blockjob.JobChangeKind) blockjob.JobChange {
	t.Helper()
	change, more := <-changes
	if !more || change.Kind != kind {
		t.Fatalf("%v (%v), want %v", change, more, kind)
	}
	return change
}

// changesOf returns those of one job up to its end and RELEASED, as "APPEARED READY ENDED RELEASED".
func changesOf(t testing.TB, changes <-chan blockjob.JobChange, id string) string {
	t.Helper()
	var kinds []string
	for change := range changes {
		if change.Job.ID() != id {
			t.Fatalf("%v, want one of job %s", change, id)
		}
		kinds = append(kinds, change.Kind.String())
		if change.Kind == blockjob.JobReleased {
			break
		}
	}
	return strings.Join(kinds, " ")
}

// theirBackup is another client's job.
func theirBackup(q *qemu.QEMU, id string) {
	q.Do("blockdev-backup", qemu.Args{"job-id": id, "device": "drive", "target": "copy", "sync": "full"})
}

func fakeBackup(fake *fakeqemu.Fake, id string) {
	fake.Do("execute", fakeqemu.Fields{"command": "blockdev-backup", "arguments": fakeqemu.Fields{
		"job-id": id, "device": "drive0", "target": "copy", "sync": "full",
	}})
}

func TestB60JobOfAnotherClientFromBeginningToEnd(t *testing.T) {
	q := disks(t)
	changes := watchJobs(t, dial(t, q.URI), blockjob.WatchJobsOptions{})
	theirBackup(q, "theirs")

	appeared := nextChange(t, changes, blockjob.JobAppeared)
	if appeared.Job.ID() != "theirs" || appeared.Type != "backup" || appeared.Started || appeared.Sequence != 1 {
		t.Errorf("%+v", appeared)
	}
	ended := nextChange(t, changes, blockjob.JobEnded)
	if ended.Outcome != blockjob.Completed || ended.Err != nil || ended.Time.IsZero() || ended.Type != "backup" {
		t.Errorf("%+v", ended)
	}
	ends(t, blockjob.Completed)(ended.Job.Wait(patience(t)))
	if ended.Job.Timeline().EndEvent.IsZero() {
		t.Errorf("%v", ended.Job.Timeline())
	}
	released := nextChange(t, changes, blockjob.JobReleased)
	if appeared.Job != ended.Job || ended.Job != released.Job || released.Sequence != 3 {
		t.Errorf("%+v", released)
	}
}

func TestB60HundredShortJobsOfAnotherClient(t *testing.T) {
	q := disks(t)
	changes := watchJobs(t, dial(t, q.URI), blockjob.WatchJobsOptions{})
	for i := 0; i < 100; i++ {
		id := fmt.Sprint("short", i)
		theirBackup(q, id)
		q.WaitStatus(id, "null")
	}
	for i := 0; i < 100; i++ {
		if got := changesOf(t, changes, fmt.Sprint("short", i)); got != "APPEARED ENDED RELEASED" {
			t.Errorf("job %d: %s", i, got)
		}
	}
}

func TestB60JobsThatAreThereAlreadyComeFirst(t *testing.T) {
	q := disks(t)
	q.Do("blockdev-mirror", qemu.Args{"job-id": "old", "device": "drive", "target": "copy", "sync": "full"})
	q.WaitStatus("old", "ready")
	changes := watchJobs(t, dial(t, q.URI), blockjob.WatchJobsOptions{})

	appeared := nextChange(t, changes, blockjob.JobAppeared)
	if appeared.Job.ID() != "old" || appeared.Type != "mirror" || appeared.Started {
		t.Errorf("%+v", appeared)
	}
	nextChange(t, changes, blockjob.JobReady)
	ends(t, blockjob.Pivoted)(appeared.Job.Pivot(patience(t)))
	if ended := nextChange(t, changes, blockjob.JobEnded); ended.Outcome != blockjob.Pivoted {
		t.Errorf("%+v", ended)
	}
	nextChange(t, changes, blockjob.JobReleased)
}

func TestB60OurOwnMirror(t *testing.T) {
	m := dial(t, disks(t).URI)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})

	appeared := nextChange(t, changes, blockjob.JobAppeared)
	if appeared.Job.ID() != job.ID() || !appeared.Started || appeared.Type != "mirror" {
		t.Errorf("%+v", appeared)
	}
	ready := nextChange(t, changes, blockjob.JobReady)
	ends(t, blockjob.Pivoted)(ready.Job.Pivot(patience(t)))
	if ended := nextChange(t, changes, blockjob.JobEnded); ended.Outcome != blockjob.Pivoted || ended.Err != nil {
		t.Errorf("%+v", ended)
	}
	nextChange(t, changes, blockjob.JobReleased)
	if job.Outcome() != blockjob.Pivoted {
		t.Errorf("%v", job)
	}
}

func TestB60FailuresAndStallsOfAllJobs(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	changes := watchJobs(t, dial(t, fake.URI), blockjob.WatchJobsOptions{})
	fakeBackup(fake, "theirs")
	nextChange(t, changes, blockjob.JobAppeared)

	fake.Do("io-error", fakeqemu.Fields{"action": "stop", "operation": "write"})
	if stalled := nextChange(t, changes, blockjob.JobStalled); stalled.Reason == "" || stalled.Err != nil {
		t.Errorf("%+v", stalled)
	}
	fake.Do("execute", fakeqemu.Fields{"command": "job-resume", "arguments": fakeqemu.Fields{"id": "theirs"}})
	nextChange(t, changes, blockjob.JobResumed)
	fake.Do("fail", fakeqemu.Fields{"error": "No space left on device"})
	ended := nextChange(t, changes, blockjob.JobEnded)
	e := fails(t, ended.Err, blockjob.ErrJobFailed, "No space left on device")
	if ended.Outcome != blockjob.Failed || e.Outcome != blockjob.Failed || ended.Reason != e.Text {
		t.Errorf("%+v", ended)
	}
	_, err := ended.Job.Wait(patience(t))
	if !reflect.DeepEqual(err, ended.Err) {
		t.Errorf("Wait returned %#v, Err is %#v", err, ended.Err)
	}
}

func TestB63ProgressOfAllJobs(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	changes, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{Progress: time.Microsecond})
	ok(t, err)
	job := mirror(t, m, halted)
	nextChange(t, changes, blockjob.JobAppeared)

	p := nextChange(t, changes, blockjob.JobProgress)
	if p.Job.ID() != job.ID() || p.Current >= p.Total || p.Progress.Total != qemu.DiskBytes {
		t.Errorf("%+v", p)
	}
	release(t, job)
	for p.Kind != blockjob.JobProgress || p.Current != p.Total {
		p = <-changes
	}
	cancel()
	for range changes {
	}
}

func TestB45EndOfTheConnectionOfAllJobs(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	mirror(t, m, halted)
	nextChange(t, changes, blockjob.JobAppeared)
	q.Kill()

	ended := nextChange(t, changes, blockjob.JobEnded)
	if ended.Outcome != blockjob.Lost || ended.Reason == "" {
		t.Errorf("%+v", ended)
	}
	fails(t, ended.Err, blockjob.ErrJobLost)
	nextChange(t, changes, blockjob.JobReleased)
	if change, more := <-changes; more {
		t.Errorf("%v", change)
	}
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected)
}

func TestB45AllJobsThroughANewConnection(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithReconnect(blockjob.Forever))
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	fakeBackup(fake, "theirs")
	appeared := nextChange(t, changes, blockjob.JobAppeared)

	fake.Do("die", nil)
	away := nextChange(t, changes, blockjob.JobsDisconnected)
	if away.Job != nil || away.Type != "" || away.Job.ID() != "" || away.Outcome != blockjob.NoOutcome {
		t.Errorf("%+v", away)
	}
	fails(t, away.Err, blockjob.ErrDisconnected)
	fake.Do("start", fakeqemu.Fields{"jobs": "keep"})
	if back := nextChange(t, changes, blockjob.JobsReconnected); back.Job != nil || back.Err != nil {
		t.Errorf("%+v", back)
	}
	fake.Do("finish", nil)
	if ended := nextChange(t, changes, blockjob.JobEnded); ended.Job != appeared.Job || ended.Outcome != blockjob.Completed {
		t.Errorf("%+v", ended)
	}
}

// A tally counts changes, of jobs of which each has an end.
type tally struct{ seen, dropped, ends, droppedEnds uint64 }

// tallied counts up to the RELEASED of that job.
func tallied(t testing.TB, changes <-chan blockjob.JobChange, last string) (all tally) {
	t.Helper()
	for change := range changes {
		all.seen++
		all.dropped += change.Dropped
		all.droppedEnds += change.DroppedEnds
		if change.DroppedEnds > change.Dropped {
			t.Errorf("%d ends among %d", change.DroppedEnds, change.Dropped)
		}
		if change.Sequence != all.seen+all.dropped {
			t.Errorf("number %d after %+v", change.Sequence, all)
		}
		if change.Kind == blockjob.JobEnded {
			all.ends++
		}
		if change.Kind == blockjob.JobReleased && change.Job.ID() == last {
			break
		}
	}
	return all
}

// fakeBackups has another client start and finish so many jobs, one after the other, and returns the id of the last.
// It returns when a stream that is read has shown all.
func fakeBackups(t testing.TB, fake *fakeqemu.Fake, m *blockjob.Monitor, count int) (last string) {
	t.Helper()
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	changes, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{})
	ok(t, err)
	for i := 0; i < count; i++ {
		last = fmt.Sprint("short", i)
		fakeBackup(fake, last)
		fake.Do("finish", fakeqemu.Fields{"job": last})
		changesOf(t, changes, last)
	}
	cancel()
	for range changes {
	}
	ok(t, m.Execute(patience(t), "query-jobs", nil, nil))
	return last
}

func TestB61SlowReceiverOfAllJobsLosesNoEnd(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	const limit, count = 8, 100
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, limit))
	slow := watchJobs(t, m, blockjob.WatchJobsOptions{})
	all := tallied(t, slow, fakeBackups(t, fake, m, count))

	// One may be on its way already; the ring has the rest.
	if all.seen+all.dropped != 3*count || all.seen > count+limit+1 || all.ends != count || all.droppedEnds != 0 {
		t.Errorf("%+v", all)
	}
}

func TestB61EndsThatAreLostAreCounted(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	const jobs, count = 3, 20
	for _, ring := range []uint64{1, 1000} {
		m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, ring), blockjob.WithLimit(blockjob.LimitJobs, jobs))
		slow := watchJobs(t, m, blockjob.WatchJobsOptions{})
		all := tallied(t, slow, fakeBackups(t, fake, m, count))

		want := uint64(3*count - (count - 2*jobs)) // of a ring that holds all but ends
		if ring == 1 {
			want = 2*jobs + 1
		}
		if all.seen+all.dropped != 3*count || all.ends+all.droppedEnds != count || all.seen > want+1 || all.seen < want {
			t.Errorf("ring of %d: %+v, want %d", ring, all, want)
		}
		ok(t, m.Close())
	}
}

func TestB07CancelledContextEndsItsWatchOfAllJobsOnly(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx, cancel := context.WithCancel(context.Background())
	idle, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{})
	ok(t, err)
	unread, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{Progress: time.Millisecond})
	ok(t, err)
	cancel()
	for range idle {
		t.Error("a change")
	}
	for range unread {
		t.Error("a change")
	}
	gone(t, "libblockjob/go.open[")

	ended, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{}) // a context that is over already
	ok(t, err)
	for range ended {
		t.Error("a change")
	}
	staying := watchJobs(t, m, blockjob.WatchJobsOptions{})
	fakeBackup(fake, "theirs")
	nextChange(t, staying, blockjob.JobAppeared)
}

func TestWatchJobsOfWhatIsInvalid(t *testing.T) {
	m := dial(t, fakeqemu.Start(t, "7.2").URI)
	_, err := m.WatchJobs(patience(t), blockjob.WatchJobsOptions{Progress: -1})
	fails(t, err, blockjob.ErrInvalid, "negative")
	_, err = m.WatchJobs(nil, blockjob.WatchJobsOptions{}) //lint:ignore SA1012 that is the test
	fails(t, err, blockjob.ErrInvalid)
	_, err = (*blockjob.Monitor)(nil).WatchJobs(patience(t), blockjob.WatchJobsOptions{})
	fails(t, err, blockjob.ErrInvalid)
	ok(t, m.Close())
	_, err = m.WatchJobs(patience(t), blockjob.WatchJobsOptions{})
	fails(t, err, blockjob.ErrClosed)
}

// countReferences stands before the library: it counts the references to jobs that this program holds, in a file.
const countReferences = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static long nowhere, *held = &nowhere;

__attribute__((constructor)) static void open_file(void)
{
    int fd = open(getenv("INTERPOSED"), O_RDWR | O_CREAT, 0600);
    if (ftruncate(fd, sizeof *held) == 0)
        held = mmap(NULL, sizeof *held, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
}

/* The library's own calls come here, too. */
static void count(void *caller, void *job, long by)
{
    Dl_info from;
    if (job && dladdr(caller, &from) && !strstr(from.dli_fname, "libblockjob"))
        __atomic_fetch_add(held, by, __ATOMIC_SEQ_CST);
}

void *bj_job_ref(void *job)
{
    count(__builtin_return_address(0), job, 1);
    return ((void *(*)(void *))dlsym(RTLD_NEXT, "bj_job_ref"))(job);
}

void *bj_job_unref(void *job)
{
    count(__builtin_return_address(0), job, -1);
    return ((void *(*)(void *))dlsym(RTLD_NEXT, "bj_job_unref"))(job);
}
`

// openAndCancel opens so many streams, and cancels each at any moment.
func openAndCancel(m *blockjob.Monitor, count int) error {
	for i := 0; i < count; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		changes, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{})
		if err != nil {
			cancel()
			return err
		}
		runtime.Gosched()
		cancel()
		for range changes {
		}
	}
	return nil
}

func TestB75JobsThatNobodyReceivesAreGivenBack(t *testing.T) {
	file := interposed(t, countReferences)
	if file == "" {
		return
	}
	held := func() int64 {
		count, err := os.ReadFile(file)
		ok(t, err)
		return int64(binary.LittleEndian.Uint64(count))
	}
	fake := fakeqemu.Start(t, "7.2")
	const ring, count = 8, 30
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, ring))
	ctx, cancel := context.WithCancel(patience(t))
	unread, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{})
	ok(t, err)
	others := start(func() (blockjob.Outcome, error) {
		return blockjob.NoOutcome, openAndCancel(m, 100)
	})
	fakeBackups(t, fake, m, count)
	ok(t, (<-others).err)
	collect(t)
	// The changes that wait; and one may be on its way.
	if now := held(); now < count || now > count+ring+1 {
		t.Errorf("%d references for %d changes", now, count+ring)
	}
	cancel()
	for range unread {
	}
	gone(t, "libblockjob/go.open[")
	collect(t)
	if now := held(); now != 0 {
		t.Errorf("%d references are left", now)
	}
}

func TestB75ThousandWatchesOfAllJobs(t *testing.T) {
	q := disks(t)
	q.Do("blockdev-mirror", qemu.Args{"job-id": "theirs", "device": "drive", "target": "copy", "sync": "full"})
	m := dial(t, q.URI)
	files := countFiles(t, "/proc/self/fd")
	for i := 0; i < 1000; i++ {
		ctx, cancel := context.WithCancel(patience(t))
		changes, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{Progress: time.Millisecond})
		ok(t, err)
		if i%2 == 0 {
			nextChange(t, changes, blockjob.JobAppeared)
		}
		cancel()
	}
	gone(t, "libblockjob/go.open[")
	if now := countFiles(t, "/proc/self/fd"); now > files {
		t.Errorf("%d files, were %d", now, files)
	}
}

func TestB74CloseEndsAWatchOfAllJobs(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	fakeBackup(fake, "theirs")
	ctx := context.Background() // nothing but Close ends anything here
	unread, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{Progress: time.Millisecond})
	ok(t, err)
	read, err := m.WatchJobs(ctx, blockjob.WatchJobsOptions{})
	ok(t, err)
	nextChange(t, read, blockjob.JobAppeared)
	ok(t, m.Close())
	for range read {
	}
	for range unread {
	}
}

// notice returns the first change that says so; others may come before, as more becomes known.
func notice(t testing.TB, changes <-chan blockjob.JobChange, words string) blockjob.JobChange {
	t.Helper()
	for change := range changes {
		if change.Kind == blockjob.JobStalled && strings.Contains(change.Reason, words) {
			return change
		}
	}
	t.Fatalf("the stream ended without %q", words)
	return blockjob.JobChange{}
}

// saysWhenLate waits until a wait says so whose deadline has passed.
func saysWhenLate(t testing.TB, job *blockjob.Job, words string) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		_, err := job.Wait(ctx)
		cancel()
		if !errors.Is(err, blockjob.ErrTimeout) {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), words) {
			return
		}
	}
}

func TestW02TargetThatDoesNotAnswer(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddServed("far")
	m := dial(t, q.URI, blockjob.WithLimit(blockjob.LimitConvergeMS, 50))
	options := halted
	options.Target = "far"
	job := mirror(t, m, options)
	q.Hang("far")
	release(t, job)
	updates, err := job.Watch(patience(t), 0)
	ok(t, err)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})

	const silent = "its target does not answer"
	if change := notice(t, changes, silent); change.Job.ID() != job.ID() {
		t.Errorf("of %v", change.Job)
	}
	for u := range updates {
		if u.Kind == blockjob.UpdateStalled && strings.Contains(u.Text, silent) {
			break
		}
	}
	saysWhenLate(t, job, silent)
	q.Answer("far")
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestC51IgnoredErrorsAreCounted(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddFailing("broken")
	m := dial(t, q.URI, blockjob.WithLimit(blockjob.LimitConvergeMS, 50))
	job := mirror(t, m, blockjob.MirrorOptions{Target: "broken", OnTargetError: "ignore"})
	notice(t, watchJobs(t, m, blockjob.WatchJobsOptions{}), "errors writing to the target were ignored")
	ends(t, blockjob.Cancelled)(job.Abort(patience(t), blockjob.Force()))
}

func TestC52PendingJobWaitsForFinalize(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI, blockjob.WithLimit(blockjob.LimitConvergeMS, 50))
	job, err := m.Backup(patience(t), "drive", blockjob.BackupOptions{
		Target: "copy", ManualFinalize: true,
	})
	ok(t, err)
	const pending = "pending until somebody finalizes it"
	notice(t, watchJobs(t, m, blockjob.WatchJobsOptions{}), pending)
	saysWhenLate(t, job, pending)
	ends(t, blockjob.Completed)(job.Finalize(patience(t)))
}
