// SPDX-License-Identifier: MIT
// Anything that can happen to a domain, at any moment of a job: every wait ends, with the truth.

package blockjob_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/libvirtd"
)

// A mishap is what others do to a domain in the middle of a job.
type mishap struct {
	name  string
	fatal bool // the domain is no more
	do    func(t testing.TB, d *libvirtd.Domain)
}

var mishaps = []mishap{
	{"nothing", false, func(testing.TB, *libvirtd.Domain) {}},
	{"QEMU is killed", true, func(_ testing.TB, d *libvirtd.Domain) { d.Kill() }},
	{"the domain is destroyed", true, func(_ testing.TB, d *libvirtd.Domain) { d.Destroy() }},
	{"libvirtd is restarted", false, func(t testing.TB, d *libvirtd.Domain) {
		d.Host.Kill(t)
		d.Host.Restart(t)
	}},
	{"libvirtd and QEMU are killed", true, func(t testing.TB, d *libvirtd.Domain) {
		d.Host.Kill(t)
		d.Kill()
		d.Host.Restart(t)
	}},
	{"QEMU is stopped for a while", false, func(_ testing.TB, d *libvirtd.Domain) {
		d.Stop()
		time.Sleep(50 * time.Millisecond)
		d.GoOn()
	}},
	// Either may come too early or too late: then libvirt refuses.
	{"another client aborts", false, func(_ testing.TB, d *libvirtd.Domain) { abortAnyway(d) }},
	{"another client pivots", false, func(_ testing.TB, d *libvirtd.Domain) {
		d.Host.Virsh("blockjob", d.Name, "vda", "--pivot")
	}},
}

func abortAnyway(d *libvirtd.Domain) {
	d.Host.Virsh("blockjob", d.Name, "vda", "--abort")
}

// verbs are what the program asks of its job meanwhile.
var verbs = []func(context.Context, *blockjob.Job) (blockjob.Outcome, error){
	func(ctx context.Context, job *blockjob.Job) (blockjob.Outcome, error) { return job.Wait(ctx) },
	func(ctx context.Context, job *blockjob.Job) (blockjob.Outcome, error) { return job.Pivot(ctx) },
	func(ctx context.Context, job *blockjob.Job) (blockjob.Outcome, error) { return job.Abort(ctx) },
}

// moment is any in the life of a copy, which is ready after some 20 ms and over some 10 ms after a verb.
func moment(random *rand.Rand) {
	time.Sleep(time.Duration(random.Intn(40)) * time.Millisecond)
}

// BLOCKJOB_ROUNDS is how often, BLOCKJOB_SEED which way.
func numberOf(variable string, otherwise int64) int64 {
	if number, err := strconv.ParseInt(os.Getenv(variable), 10, 64); err == nil {
		return number
	}
	return otherwise
}

func TestB65B66B70AnythingAtAnyMoment(t *testing.T) {
	seed := numberOf("BLOCKJOB_SEED", time.Now().UnixNano())
	rounds := numberOf("BLOCKJOB_ROUNDS", int64(len(mishaps)))
	random := rand.New(rand.NewSource(seed))
	t.Log("BLOCKJOB_SEED=", seed)

	host := libvirtd.Start(t)
	for round := 0; round < int(rounds); round++ {
		mishap := mishaps[round%len(mishaps)]
		var options []blockjob.DialOption
		if random.Intn(2) == 0 {
			options = append(options, blockjob.WithReconnect(time.Minute))
		}
		t.Run(fmt.Sprint(round, " ", mishap.name), func(t *testing.T) {
			// A domain of its own: a job that was lost may go on, and refuse the next one.
			d := host.Domain(t, "vm-")
			oneMishap(t, random, d, mishap, options)
			if !mishap.fatal && d.IsRunning() {
				d.Destroy()
			}
		})
	}
}

func oneMishap(t *testing.T, random *rand.Rand, d *libvirtd.Domain, mishap mishap,
	options []blockjob.DialOption) {
	before := d.Source("vda")
	target := d.MakeEmpty("copy")
	m := dial(t, d.URI, options...)
	job, err := m.Mirror(patience(t), "vda", blockjob.MirrorOptions{
		Target: target, Extra: map[string]any{"format": "qcow2", "reuse": true},
	})
	ok(t, err)

	var answers []<-chan answer
	ask := func(verb int) {
		answers = append(answers, start(func() (blockjob.Outcome, error) {
			return verbs[verb](patience(t), job)
		}))
	}
	ask(0)
	moment(random)
	for verb := 1; verb < len(verbs); verb++ {
		if random.Intn(2) == 0 {
			ask(verb)
		}
	}
	moment(random)
	mishap.do(t, d)
	if len(answers) == 1 && !mishap.fatal {
		libvirtd.Until(t, func() bool { // somebody has to end it, who may be too early for libvirt
			abortAnyway(d)
			return isClosed(job.Done())
		})
	}

	for _, each := range answers {
		if a := <-each; errors.Is(a.err, blockjob.ErrTimeout) {
			t.Error("a wait hung: ", a.err)
		}
	}
	outcome := job.Outcome()
	t.Log(outcome, job.Err())
	switch outcome {
	case blockjob.Pivoted, blockjob.Copied, blockjob.Cancelled:
		want := before
		if outcome == blockjob.Pivoted {
			want = target
		}
		if !mishap.fatal && d.IsRunning() && d.Source("vda") != want {
			t.Errorf("it ended %v, and the domain runs on %s", outcome, d.Source("vda"))
		}
	case blockjob.Lost, blockjob.Completed: // what happened, or whether the disk was switched, is unknown
		if mishap.name == "nothing" {
			t.Errorf("it ended %v, and nothing happened", outcome)
		}
	case blockjob.Failed: // libvirt 9.0 says so of a job that was aborted around its restart
		if mishap.name != "libvirtd is restarted" {
			t.Errorf("it ended %v: %v", outcome, job.Err())
		}
	default:
		t.Errorf("it ended %v: %v", outcome, job.Err())
	}
}
