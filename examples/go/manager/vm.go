// SPDX-License-Identifier: MIT

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
)

// object is the arguments of a command.
type object map[string]any

// A VM is a QEMU behind its only QMP socket. Files have names: that of the node which is made of them.
type VM struct {
	name    string
	monitor *blockjob.Monitor
	log     *log.Logger
	logging sync.WaitGroup // of what QEMU reports
}

// Connect waits for a QEMU that was started a moment ago.
func Connect(ctx context.Context, name, uri string, trace, log *log.Logger) (*VM, error) {
	monitor, err := blockjob.Dial(ctx, uri,
		blockjob.WithName(name), // in errors and in the trace
		blockjob.WithWait(10*time.Second),
		blockjob.WithOutOfBand(),
		blockjob.WithTrace(func(line blockjob.TraceLine) { trace.Println(line) }),
		blockjob.WithSecretsMasked())
	if err != nil {
		return nil, err
	}
	vm := &VM{name: name, monitor: monitor, log: log}
	if err := vm.follow(); err != nil {
		monitor.Close()
		return nil, err
	}
	return vm, nil
}

// Close leaves QEMU, and what it does, alone.
func (vm *VM) Close() {
	vm.monitor.Close()
	vm.logging.Wait()
}

// follow logs events of interest and what becomes of each job, whoever started it. Both streams are opened before anything
// is sent, so that a job which fails at once is in the log as well. They end with the monitor.
func (vm *VM) follow() error {
	events, err := vm.monitor.Events(context.Background(), "SHUTDOWN", "RESET", "STOP", "RESUME", "DEVICE_DELETED")
	if err != nil {
		return err
	}
	jobs, err := vm.monitor.WatchJobs(context.Background(), blockjob.WatchJobsOptions{})
	if err != nil {
		return err
	}
	vm.logging.Add(2)
	go func() {
		defer vm.logging.Done()
		for event := range events {
			vm.log.Println(vm.name, event)
		}
	}()
	go func() {
		defer vm.logging.Done()
		for change := range jobs {
			vm.log.Println(vm.name, change)
		}
		vm.log.Println(vm.name, "left:", vm.monitor.Err())
	}()
	return nil
}

// Run sends a command.
func (vm *VM) Run(ctx context.Context, command string, arguments, reply any) error {
	return vm.monitor.Execute(ctx, command, arguments, reply)
}

// RunJSON sends a command whose arguments are text, and logs the reply.
func (vm *VM) RunJSON(ctx context.Context, command, arguments string) error {
	var reply json.RawMessage
	err := vm.Run(ctx, command, json.RawMessage(arguments), &reply)
	vm.log.Printf("%s %s: %s", vm.name, command, reply)
	return err
}

// SendFile gives QEMU a descriptor, for the next command that takes one of this name.
func (vm *VM) SendFile(ctx context.Context, name, path string) error {
	return vm.send(ctx, "getfd", object{"fdname": name}, nil, path, 0)
}

// SendFileWithFDSet gives QEMU a descriptor, and returns the path under which it opens it.
func (vm *VM) SendFileWithFDSet(ctx context.Context, name, path string, flags int) (string, error) {
	var set struct {
		ID int `json:"fdset-id"`
	}
	err := vm.send(ctx, "add-fd", object{"opaque": name}, &set, path, flags)
	return fmt.Sprintf("/dev/fdset/%d", set.ID), err
}

func (vm *VM) send(ctx context.Context, command string, arguments, reply any, path string, flags int) error {
	file, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return vm.monitor.Execute(ctx, command, arguments, reply, blockjob.WithFiles(file))
}

// RemoveFDSet takes it back: QEMU closes it as soon as it is not in use.
func (vm *VM) RemoveFDSet(ctx context.Context, name string) error {
	var sets []struct {
		ID  int `json:"fdset-id"`
		FDs []struct{ Opaque string }
	}
	if err := vm.Run(ctx, "query-fdsets", nil, &sets); err != nil {
		return err
	}
	for _, set := range sets {
		if len(set.FDs) > 0 && set.FDs[0].Opaque == name {
			return vm.Run(ctx, "remove-fd", object{"fdset-id": set.ID}, nil)
		}
	}
	return nil
}

// AddNode makes a node of a file that only this program need be able to open.
func (vm *VM) AddNode(ctx context.Context, name, path string, flags int) error {
	set, err := vm.SendFileWithFDSet(ctx, name, path, flags)
	if err != nil {
		return err
	}
	file := object{"driver": "file", "filename": set}
	return vm.Run(ctx, "blockdev-add", object{"driver": "raw", "node-name": name, "file": file}, nil)
}

// RemoveNode is the end of a node that nothing uses.
func (vm *VM) RemoveNode(ctx context.Context, name string) error {
	if err := vm.Run(ctx, "blockdev-del", object{"node-name": name}, nil); err != nil {
		return err
	}
	return vm.RemoveFDSet(ctx, name)
}

// AddDisk plugs a disk in.
func (vm *VM) AddDisk(ctx context.Context, disk, path string) error {
	if err := vm.AddNode(ctx, disk+"-file", path, 0); err != nil {
		return err
	}
	return vm.Run(ctx, "device_add", object{"driver": "scsi-hd", "id": disk, "drive": disk + "-file"}, nil)
}

// RemoveDisk unplugs it, and returns when it is gone. A guest may take its time, or refuse.
func (vm *VM) RemoveDisk(ctx context.Context, disk string) error {
	node, err := vm.Node(ctx, disk)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	deleted, err := vm.monitor.Events(ctx, "DEVICE_DELETED")
	if err != nil {
		return err
	}
	if err := vm.Run(ctx, "device_del", object{"id": disk}, nil); err != nil {
		return err
	}
	for event := range deleted {
		var data struct{ Device string }
		if json.Unmarshal(event.Data, &data) == nil && data.Device == disk {
			return vm.RemoveNode(ctx, node.Name)
		}
	}
	return fmt.Errorf("%s: %s was not seen to go", vm.name, disk)
}

// A Node is what a disk consists of.
type Node struct {
	Name  string `json:"node-name"`
	Image struct {
		Size int64 `json:"virtual-size"`
	}
}

// Disks are the disks and the nodes that they have now: a guest may have been switched to another.
func (vm *VM) Disks(ctx context.Context) (map[string]Node, error) {
	var rows []struct {
		QDev     string
		Inserted Node
	}
	err := vm.Run(ctx, "query-block", nil, &rows)
	disks := make(map[string]Node)
	for _, row := range rows {
		disks[row.QDev] = row.Inserted
	}
	return disks, err
}

// Node is that of a disk.
func (vm *VM) Node(ctx context.Context, disk string) (Node, error) {
	disks, err := vm.Disks(ctx)
	node, known := disks[disk]
	if err == nil && !known {
		err = fmt.Errorf("%s has no disk %s", vm.name, disk)
	}
	return node, err
}

// Yank has QEMU give up the connection of a node to its server, however badly the server hangs. Other commands may wait for
// that server; this one doesn't wait for them.
func (vm *VM) Yank(ctx context.Context, node string) error {
	instance := object{"type": "block-node", "node-name": node}
	return vm.monitor.Execute(ctx, "yank", object{"instances": []object{instance}}, nil, blockjob.OutOfBand())
}

// BlockDevSnapshot has the guest write to a new overlay from now on.
func (vm *VM) BlockDevSnapshot(ctx context.Context, disk, path string) error {
	node, err := vm.Node(ctx, disk)
	if err != nil {
		return err
	}
	file, overlay := disk+"-overlay-file", disk+"-overlay"
	if err := vm.AddNode(ctx, file, path, os.O_CREATE); err != nil {
		return err
	}
	format := object{"driver": "qcow2", "file": file, "size": node.Image.Size}
	job, err := vm.monitor.Start(ctx, "blockdev-create", object{"options": format})
	if err != nil {
		return err
	}
	if _, err := job.Wait(ctx); err != nil { // QEMU's reason, however early it failed
		return err
	}
	add := object{"driver": "qcow2", "node-name": overlay, "file": file, "backing": nil}
	if err := vm.Run(ctx, "blockdev-add", add, nil); err != nil {
		return err
	}
	return vm.Run(ctx, "blockdev-snapshot", object{"node": node.Name, "overlay": overlay}, nil)
}

// BlockCommit merges the overlay down, and has the guest go on with what is below it.
func (vm *VM) BlockCommit(ctx context.Context, disk string) error {
	file, overlay := disk+"-overlay-file", disk+"-overlay"
	job, err := vm.monitor.Commit(ctx, overlay, blockjob.CommitOptions{})
	if err != nil {
		return err
	}
	// Whether it is to be pivoted is not for us to know. Released: or else blockdev-del might come too early.
	if _, err := job.Finish(ctx, blockjob.Released()); err != nil {
		return err
	}
	if err := vm.RemoveNode(ctx, overlay); err != nil {
		return err
	}
	return vm.RemoveNode(ctx, file)
}

// BlockDevMirror copies a disk to an NBD server, and returns when both are equal. The name of the node is that of the disk,
// and so is the job's: a manager that was restarted finds it.
func (vm *VM) BlockDevMirror(ctx context.Context, disk, socket string) error {
	node, err := vm.Node(ctx, disk)
	if err != nil {
		return err
	}
	server := object{"type": "unix", "path": socket}
	target := object{"driver": "nbd", "node-name": disk + "-nbd", "server": server, "export": "disk"}
	if err := vm.Run(ctx, "blockdev-add", target, nil); err != nil {
		return err
	}
	job, err := vm.monitor.Mirror(ctx, node.Name, blockjob.MirrorOptions{Target: disk + "-nbd", JobID: disk + "-mirror"})
	if err != nil {
		return err
	}
	return job.WaitReady(ctx)
}

// BlockJobComplete switches a disk to its copy.
func (vm *VM) BlockJobComplete(ctx context.Context, disk string) error {
	node, err := vm.Node(ctx, disk)
	if err != nil {
		return err
	}
	job, err := vm.monitor.Attach(ctx, disk+"-mirror")
	if err != nil {
		return err
	}
	// QEMU accepts at once. To switch can take as long as a flush does.
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := job.Pivot(soon, blockjob.Async()); err != nil {
		return err
	}
	vm.log.Printf("%s switches %s", vm.name, disk)
	if _, err := job.Wait(ctx); err != nil {
		return err
	}
	if err := job.Dismiss(ctx); err != nil { // perhaps this program has started it in an earlier life
		return err
	}
	return vm.RemoveNode(ctx, node.Name)
}

// Backup copies all disks as they are at one moment into files of their names. A "full" copy begins a bitmap,
// and an "incremental" one has what has changed since the last.
func (vm *VM) Backup(ctx context.Context, kind, folder string) error {
	disks, err := vm.Disks(ctx)
	if err != nil {
		return err
	}
	var actions []blockjob.Action
	for disk, node := range disks {
		target := disk + "-backup"
		if err := vm.AddNode(ctx, target, filepath.Join(folder, disk), os.O_CREATE); err != nil {
			return err
		}
		defer vm.RemoveNode(ctx, target)
		size := object{"node-name": target, "size": node.Image.Size}
		if err := vm.Run(ctx, "block_resize", size, nil); err != nil {
			return err
		}
		backup := object{"device": node.Name, "target": target, "sync": kind}
		if kind == "incremental" {
			backup["bitmap"] = "changed"
		} else {
			bitmap := object{"node": node.Name, "name": "changed"}
			actions = append(actions, blockjob.Action{Type: "block-dirty-bitmap-add", Data: bitmap})
		}
		actions = append(actions, blockjob.Action{Type: "blockdev-backup", Data: backup})
	}
	var options []blockjob.TransactionOption
	if kind == "incremental" { // all or none; QEMU can't begin a bitmap in such a group
		options = append(options, blockjob.Grouped())
	}
	jobs, err := vm.monitor.Transaction(ctx, actions, options...)
	if err != nil {
		return err
	}
	return blockjob.NewGroup(jobs...).WaitReleased(ctx)
}
