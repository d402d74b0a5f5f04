#!/usr/bin/perl
# SPDX-License-Identifier: MIT
# Copies a disk and switches to the copy, or gives the copy up.
#
#     perl pivot.pl SOCKET DEVICE TARGET

use strict;
use warnings;

use BlockJob;

sub copy_and_pivot {
    my ($monitor, $device, $target) = @_;
    my $job = $monitor->mirror($device, target => $target, sync => 'full');
    print $job->id, " copies $device to $target\n";
    my $outcome = eval {
        local $SIG{INT} = sub { die "interrupted\n" };
        $job->ready;
        print "ready\n";
        $job->pivot(timeout => 60);
    };
    return $outcome if defined $outcome;
    my $error = $@;
    my $end = eval { $job->abort(force => 1, timeout => 60) } // 'under way';
    die "drive-mirror failed, the copy is $end: $error";
}

die "usage: pivot.pl SOCKET DEVICE TARGET\n" if @ARGV != 3;
my ($socket, $device, $target) = @ARGV;
my $monitor = BlockJob::Monitor->connect($socket, timeout => 10);
print copy_and_pivot($monitor, $device, $target), "\n";
