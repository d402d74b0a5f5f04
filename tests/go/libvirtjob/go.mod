module github.com/libblockjob/libblockjob/tests/go/libvirtjob

go 1.19

require (
	github.com/libblockjob/libblockjob/go v0.1.0
	github.com/libblockjob/libblockjob/go/libvirtjob v0.1.0
	github.com/libblockjob/libblockjob/tests/go v0.0.0
	libvirt.org/go/libvirt v1.9000.0
)

replace (
	github.com/libblockjob/libblockjob/go => ../../../go
	github.com/libblockjob/libblockjob/go/libvirtjob => ../../../go/libvirtjob
	github.com/libblockjob/libblockjob/tests/go => ../
)
