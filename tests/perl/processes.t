# SPDX-License-Identifier: MIT
# fork() and other event loops.
use strict;
use warnings;

use lib 'tests/perl';
use Test::More;
use TestQemu;
use BlockJob;
use Config;

my $qemu = TestQemu->new;
$qemu->step('disk',  name => 'disk0');
$qemu->step('empty', name => 'copy0', size => 4 * 1024 * 1024);
my $monitor = BlockJob::Monitor->connect($qemu->path, timeout => 60);

subtest 'a child has connections of its own' => sub {
    my $job = $monitor->mirror('disk0', target => 'copy0', speed => 1, 'buf-size' => 65536);
    pipe my $from, my $to or die $!;
    my $pid = fork // die $!;
    if (!$pid) {
        my $error = eval { $monitor->list; 'none' } // $@->name;
        my $mine  = eval {
            my $monitor = BlockJob::Monitor->connect($qemu->second, timeout => 60);
            $monitor->attach($job->id)->info->{type};
        } // "failed: $@";
        print {$to} "$error $mine\n";
        close $to;
        undef $job;
        undef $monitor;
        require POSIX;
        POSIX::_exit(0);
    }
    close $to;
    is scalar <$from>, "FORKED mirror\n", "the parent's are refused, its own serve";
    waitpid $pid, 0;
    $job->set_speed(0);
    is $job->pivot, 'PIVOTED', 'the parent goes on';
    $job->done(released => 1);
};

SKIP: {
    skip 'this perl has no threads', 1 if !$Config{useithreads};
    require threads;
    threads->create(sub { 1 })->join;
    is ref $monitor->list, 'ARRAY', 'a thread that ends takes nothing with it';
}

SKIP: {
    skip 'AnyEvent is not installed', 1 if !eval { require AnyEvent; 1 };
    subtest 'AnyEvent' => sub {
        my $over  = AnyEvent->condvar;
        my $ticks = 0;
        my $timer = AnyEvent->timer(after => 0, interval => 0.001, cb => sub { $ticks++ });
        my $watcher
            = AnyEvent->io(fh => BlockJob->fd, poll => 'r', cb => sub { BlockJob->dispatch });
        $monitor->mirror(
            'copy0',
            target => 'disk0',
            cb     => sub {
                my ($error, $job) = @_;
                return $over->croak($error) if $error;
                $job->pivot(cb => sub { $_[0] ? $over->croak($_[0]) : $over->send($_[1]) });
            }
        );
        is $over->recv, 'PIVOTED', 'pivoted';
        my $later = AnyEvent->condvar;
        my $more  = AnyEvent->timer(after => 0, interval => 0.001,
            cb => sub { $later->send if $ticks > 0 });
        $later->recv;
        ok $ticks > 0, 'the loop has served others';
    };
}

done_testing;
