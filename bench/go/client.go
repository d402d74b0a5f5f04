// SPDX-License-Identifier: MIT

// What bench/pivot measures in Go, and bench/idle traces; see client.c.
//
//	client SOCKET
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	blockjob "github.com/libblockjob/libblockjob/go"
)

func main() {
	var device, target string

	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: client SOCKET")
	}
	for {
		if _, err := fmt.Scan(&device, &target); err != nil {
			return
		}
		if err := pivot(os.Args[1], device, target); err != nil {
			log.Fatal("client: ", err)
		}
	}
}

func pivot(uri, device, target string) error {
	ctx := context.Background()

	monitor, err := blockjob.Dial(ctx, uri)
	if err != nil {
		return err
	}
	defer monitor.Close()

	job, err := monitor.Mirror(ctx, device, blockjob.MirrorOptions{Target: target})
	if err != nil {
		return err
	}
	late := job.IsReady()
	if _, err := job.Pivot(ctx); err != nil {
		return err
	}
	if _, err := job.WaitReleased(ctx); err != nil {
		return err
	}
	if late {
		fmt.Println("late")
	} else {
		fmt.Println("pivoted")
	}
	return nil
}
