// SPDX-License-Identifier: MIT

// Manager looks after VMs, each by its only QMP socket: it passes files, plugs disks, takes and merges snapshots, moves and
// backs up disks, and logs what happens besides:
//
//	go run ./manager /var/log/wire vm1=unix:/run/vm1.qmp vm2=unix:/run/vm2.qmp
//
// A line of its standard input is the name of a VM, a verb and its arguments; the table below has them. Each line is
// answered by one line, "done" or "failed" and why. Lines of the log begin with the name of a VM.
package main

import (
	"bufio"
	"context"
	"log"
	"os"
	"strings"
)

// A call is that of a method; arguments that are missing are "", which QEMU and the kernel refuse.
type call func(vm *VM, ctx context.Context, one, two string) error

var verbs = map[string]call{
	"run":      (*VM).RunJSON,               // COMMAND ARGUMENTS
	"send":     (*VM).SendFile,              // NAME FILE
	"plug":     (*VM).AddDisk,               // DISK FILE
	"unplug":   one((*VM).RemoveDisk),       // DISK
	"snapshot": (*VM).BlockDevSnapshot,      // DISK FILE
	"commit":   one((*VM).BlockCommit),      // DISK
	"mirror":   (*VM).BlockDevMirror,        // DISK NBD-SOCKET
	"pivot":    one((*VM).BlockJobComplete), // DISK
	"backup":   (*VM).Backup,                // full|incremental FOLDER
	"yank":     one((*VM).Yank),             // NODE
}

func one(do func(*VM, context.Context, string) error) call {
	return func(vm *VM, ctx context.Context, one, _ string) error { return do(vm, ctx, one) }
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: manager TRACE NAME=URI...")
	}
	wire, err := os.OpenFile(os.Args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	trace, out := log.New(wire, "", log.LstdFlags|log.Lmicroseconds), log.New(os.Stdout, "", 0)
	ctx := context.Background() // QEMU goes on when this program is killed

	vms := make(map[string]*VM)
	for _, argument := range os.Args[2:] {
		name, uri, _ := strings.Cut(argument, "=")
		if vms[name], err = Connect(ctx, name, uri, trace, out); err != nil {
			log.Fatal(err)
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := append(strings.Fields(lines.Text()), "", "", "", "")
		vm, do := vms[words[0]], verbs[words[1]]
		if vm == nil || do == nil {
			out.Println("failed: a line is the name of a VM, a verb and its arguments")
		} else if err := do(vm, ctx, words[2], words[3]); err != nil {
			out.Println("failed:", err)
		} else {
			out.Println("done")
		}
	}
	for _, vm := range vms {
		vm.Close()
	}
}
