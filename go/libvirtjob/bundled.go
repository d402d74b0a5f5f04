// SPDX-License-Identifier: MIT

//go:build !libblockjob_system

package libvirtjob

// The driver for domains is compiled into the program, where the core finds it before an installed
// one.

// #cgo CFLAGS: -std=gnu11 -pthread
// #cgo pkg-config: libvirt libvirt-qemu libxml-2.0 jansson
// #cgo LDFLAGS: -lm -ldl -pthread
import "C"
