// SPDX-License-Identifier: MIT

// Package libvirtjob awaits the block jobs of domains that a program has from libvirt.org/go/libvirt.
//
//	monitor, err := libvirtjob.Dial(ctx, domain)
//	if err != nil {
//		return err
//	}
//	defer monitor.Close()
//
//	job, err := monitor.Commit(ctx, "vda", blockjob.CommitOptions{Extra: map[string]any{"active": true}})
//	if err != nil {
//		return err
//	}
//	outcome, err := job.Pivot(ctx)
//
// It is a module of its own, so that the module blockjob needs no libvirt. A program that has no connection
// of its own dials "qemu:///system#vm1" with blockjob.Dial. It may import this package for the driver
// alone, which is compiled in and needs the development files of libvirt and libxml2; without it, blockjob
// loads an installed driver. With the build tag libblockjob_system both are the installed library's.
//
// Require the modules go and go/libvirtjob of the same version: they hold parts of one C library. Of two
// versions the build fails, as core.SameVersionAsLibvirtjob_... is undefined.
package libvirtjob

import (
	"context"
	"reflect"
	"runtime"
	"unsafe"

	blockjob "github.com/libblockjob/libblockjob/go"
	"libvirt.org/go/libvirt"
)

// Dial connects to a domain over the domain's own connection: see blockjob.DialDomain for its needs
// and its errors. The caller must not free the domain before Dial returns; after that it may be
// freed, and the connection closed, while the monitor is in use.
//
// A program that registers libvirt's event loop (libvirt.EventRegisterDefaultImpl) does so before it opens
// connections, as ever, and has a goroutine that runs it; in one that doesn't, the library has a loop.
func Dial(ctx context.Context, domain *libvirt.Domain, options ...blockjob.DialOption) (*blockjob.Monitor, error) {
	pointer, err := virDomainPtr(domain)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(domain)
	return blockjob.DialDomain(ctx, pointer, options...)
}

// virDomainPtr returns C's pointer. A Domain is that and nothing else, but has no method that tells it,
// as a Connect has in RawPtr; to look the domain up once more on the raw connection would ask libvirtd,
// for as long as that may take.
func virDomainPtr(domain *libvirt.Domain) (unsafe.Pointer, error) {
	if domain == nil {
		return nil, &blockjob.Error{Code: blockjob.ErrInvalid, Text: "Dial needs a domain, not nil"}
	}
	pointer := reflect.ValueOf(domain).Elem().FieldByName("ptr")
	if pointer.Kind() != reflect.Pointer || pointer.Type().Name() != "_Ctype_virDomainPtr" {
		return nil, &blockjob.Error{
			Code: blockjob.ErrUnsupported,
			Text: "a Domain of this libvirt.org/go/libvirt is not the virDomainPtr that it was",
		}
	}
	return pointer.UnsafePointer(), nil
}
