// SPDX-License-Identifier: MIT

// What bench/libvirt-pivot and bench/libvirt-rounds measure in Go; see
// ../../libvirt/client.c.
//
//	libvirt URI DOMAIN
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
)

func main() {
	var device, target string
	var bandwidth int64

	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: libvirt URI DOMAIN")
	}
	monitor, err := blockjob.Dial(context.Background(), os.Args[1]+"#"+os.Args[2])
	if err != nil {
		log.Fatal("libvirt: ", err)
	}
	defer monitor.Close()
	for {
		if _, err := fmt.Scan(&device, &target, &bandwidth); err != nil {
			return
		}
		if over, err := pivot(monitor, device, target, bandwidth); err != nil {
			fmt.Println("failed:", err)
		} else {
			fmt.Println(over.UnixMicro())
		}
	}
}

// pivot returns when the pivot was known to be over.
func pivot(monitor *blockjob.Monitor, device, target string, bandwidth int64) (time.Time, error) {
	var over time.Time
	ctx := context.Background()

	job, err := monitor.Mirror(ctx, device, blockjob.MirrorOptions{
		Target: target,
		Extra:  map[string]any{"format": "raw", "reuse": true, "bandwidth": bandwidth},
	})
	if err != nil {
		return over, err
	}
	fmt.Println("waiting")
	if _, err := job.Pivot(ctx); err != nil {
		return over, err
	}
	over = time.Now()
	_, err = job.WaitReleased(ctx)
	return over, err
}
