# SPDX-License-Identifier: MIT
# Block jobs of a real qemu-storage-daemon from Perl: waits, outcomes, errors, watches, groups.
use strict;
use warnings;

use lib 'tests/perl';
use Test::More;
use TestQemu;
use Time::HiRes ();
use BlockJob;

# Stands still until its speed is set to 0.
my @halted = (speed => 1, 'buf-size' => 65536);

sub connected {
    my ($qemu) = @_;
    return BlockJob::Monitor->connect($qemu->path, timeout => 60);
}

sub dies {
    my ($code) = @_;
    return eval { $code->(); 1 } ? undef : $@;
}

sub dispatch_until {
    my ($done) = @_;
    until ($done->()) {
        vec(my $bits = '', BlockJob->fd, 1) = 1;
        select $bits, undef, undef, undef;
        BlockJob->dispatch;
    }
    return;
}

sub with_disks {
    my $qemu = TestQemu->new;
    $qemu->step('disk',  name => 'disk0');
    $qemu->step('empty', name => 'copy0', size => 4 * 1024 * 1024);
    return ($qemu, connected($qemu));
}

subtest 'a mirror is pivoted' => sub {
    my ($qemu, $monitor) = with_disks();
    like $monitor->version, qr/\A\d+\.\d+/, 'the version';
    is $monitor->uri, $qemu->path, 'the address';
    my $job = $monitor->mirror('disk0', target => 'copy0', sync => 'full');
    like $job->id, qr/\Abj-/, 'an id was made up';
    is $job->type, 'mirror', 'its type';
    is $job->outcome, undef, 'it has not ended';
    is $job->ready->pivot(timeout => 60), 'PIVOTED', 'pivoted';
    ok $job->is_ready, 'it was ready';
    is $job->outcome, 'PIVOTED', 'and this is known';
    is $job->done(released => 1), 'PIVOTED', 'released';
    is_deeply $monitor->list, [], 'it was dismissed';
};

subtest 'aborts, and what becomes of them' => sub {
    my ($qemu, $monitor) = with_disks();
    my $job = $monitor->mirror('disk0', target => 'copy0');
    is $job->ready->abort, 'COPIED', 'softly, when ready';
    $job->done(released => 1);
    $job = $monitor->mirror('disk0', target => 'copy0', @halted);
    is $job->abort(force => 1), 'CANCELLED', 'by force';
    my $error = dies(sub { $job->pivot });
    is ref $error, 'BlockJob::Error', 'an object';
    is $error->name, 'JOB_ENDED', 'its name';
    is $error->code, $BlockJob::Core::E_JOB_ENDED, 'its code';
    is $error->outcome, 'CANCELLED', 'how it ended';
    is "$error", $error->text . "\n", 'as a string';
    is "$error", "failed: $error" =~ s/\Afailed: //r, 'inside another';
};

subtest 'verbs of a running job' => sub {
    my ($qemu, $monitor) = with_disks();
    my $job = $monitor->mirror('disk0', target => 'copy0', 'job-id' => 'j1', @halted);
    is $job->id, 'j1', 'an id of our own';
    my $info = $job->info;
    is $info->{id}, 'j1', 'a row';
    is $info->{speed}, 1, 'the option was a number';
    is $info->{total}, 4 * 1024 * 1024, 'its size';
    is scalar @{ $monitor->list }, 1, 'it is listed';
    $job->pause;
    is dies(sub { $job->pivot(timeout => 60) })->name, 'STALLED', 'a paused job';
    $job->resume;
    is $monitor->attach('j1')->id, 'j1', 'attached';
    is dies(sub { $monitor->attach('none') })->name, 'NO_JOB', 'no such job';
    $job->set_speed(0);
    is $job->pivot, 'PIVOTED', 'it goes on';
};

subtest 'deadlines and signals' => sub {
    my ($qemu, $monitor) = with_disks();
    my $job = $monitor->mirror('disk0', target => 'copy0', @halted);
    is dies(sub { $job->ready(timeout => 0) })->name, 'TIMEOUT', 'what is true now';
    my $died = dies(sub {
        local $SIG{ALRM} = sub { die "alarm\n" };
        Time::HiRes::ualarm(50_000);
        $job->pivot;
    });
    is $died, "alarm\n", 'a signal handler ends the wait';
    $job->set_speed(0);
    $job->ready;
    is $job->outcome, undef, 'the pivot that was left is not carried out';
    is $job->abort, 'COPIED', 'still there';
};

subtest 'commands and events' => sub {
    my ($qemu, $monitor) = with_disks();
    my @seen;
    my $watch = $monitor->events(sub { push @seen, $_[0] });
    is $monitor->execute('query-version')->{qemu}{major}, $monitor->version =~ s/\..*//r, 'a reply';
    my $error = dies(sub { $monitor->execute('no-such', { a => 1 }) });
    is $error->name, 'REFUSED', 'refused';
    is $error->class, 'CommandNotFound', 'its class';
    is dies(sub { $monitor->execute('blockdev-del', { 'node-name' => "\x{e4}\x{20ac}" }) })->name,
        'REFUSED', 'wide characters go through';
    $monitor->mirror('disk0', target => 'copy0')->pivot;
    dispatch_until(sub { grep { $_->{name} eq 'BLOCK_JOB_COMPLETED' } @seen });
    my ($ready) = grep { $_->{name} eq 'BLOCK_JOB_READY' } @seen;
    is $ready->{kind}, 'EVENT', 'an event';
    is $ready->{data}{type}, 'mirror', 'its data';
    cmp_ok $ready->{timestamp}, '>', 1e9, 'its time';
    $watch->close;
};

subtest 'all jobs are watched' => sub {
    my ($qemu, $monitor) = with_disks();
    my @seen;
    my $watch = $monitor->watch_jobs(sub { push @seen, $_[0] });
    my $job   = $monitor->mirror('disk0', target => 'copy0');
    $job->pivot;
    dispatch_until(sub { @seen && $seen[-1]{kind} eq 'RELEASED' });
    is join(' ', map { $_->{kind} } grep { $_->{kind} ne 'RESUMED' } @seen),
        'APPEARED READY ENDED RELEASED', 'its life';
    is $seen[0]{name}, 'mirror', 'its type';
    ok $seen[0]{started}, 'this library started it';
    my ($ended) = grep { $_->{kind} eq 'ENDED' } @seen;
    is $ended->{outcome}, 'PIVOTED', 'how it ended';
    is $ended->{job}->id, $job->id, 'which job';
    undef $watch;
    $monitor->mirror('copy0', target => 'disk0')->abort(force => 1);
    is $seen[-1]{kind}, 'RELEASED', 'nothing comes after the watch was let go';
};

subtest 'progress' => sub {
    my ($qemu, $monitor) = with_disks();
    my @seen;
    my $job   = $monitor->mirror('disk0', target => 'copy0', @halted);
    my $watch = $job->watch(sub { push @seen, $_[0] }, progress => 0.01);
    dispatch_until(sub { grep { $_->{kind} eq 'PROGRESS' } @seen });
    my ($progress) = grep { $_->{kind} eq 'PROGRESS' } @seen;
    is $progress->{total}, 4 * 1024 * 1024, 'the whole';
    $job->abort(force => 1);
};

subtest 'groups' => sub {
    my ($qemu, $monitor) = with_disks();
    $qemu->step('disk',  name => 'disk1');
    $qemu->step('empty', name => 'copy1', size => 4 * 1024 * 1024);
    my @jobs = map { $monitor->mirror("disk$_", target => "copy$_") } 0, 1;
    my $group = BlockJob::Group->new(@jobs);
    $group->ready;
    ok $group->pivot(timeout => 60), 'pivoted';
    is join(' ', map { $_->outcome } @jobs), 'PIVOTED PIVOTED', 'both';
    ok $group->done(released => 1), 'over';
    my @more = map { $monitor->mirror("copy$_", target => "disk$_", @halted) } 0, 1;
    BlockJob::Group->new(@more)->abort(force => 1);
    is join(' ', map { $_->outcome } @more), 'CANCELLED CANCELLED', 'aborted';
};

subtest 'answers go to callbacks' => sub {
    my ($qemu, $monitor) = with_disks();
    my ($error, $outcome, $why);
    my $job = $monitor->mirror('disk0', target => 'copy0', @halted);
    $job->pivot(cb => sub { ($error, $outcome) = @_ });
    my $wait = $job->ready(cb => sub { $why = shift });
    $wait->cancel;
    dispatch_until(sub { $why });
    is $why->name, 'CANCELLED', 'cancelled';
    $job->set_speed(0, cb => sub { });
    dispatch_until(sub { $outcome || $error });
    is $outcome, 'PIVOTED', 'the value';
    is $error, undef, 'no error';
    eval { $job->resume(cb => sub { die "mine\n" }); dispatch_until(sub { 0 }) };
    is $@, "mine\n", 'what a callback dies of goes to whoever dispatches';
};

subtest 'QEMU dies' => sub {
    my ($qemu, $monitor) = with_disks();
    my $job = $monitor->mirror('disk0', target => 'copy0', @halted);
    $qemu->step('kill');
    my $error = dies(sub { $job->done });
    is $error->name, 'JOB_LOST', 'lost';
    is $job->outcome, 'LOST', 'and nothing else';
    like $job->text, qr/connection/, 'with the reason';
};

subtest 'a connection is made again' => sub {
    my ($qemu, $monitor) = with_disks();
    $monitor->reconnect(60);
    my @seen;
    my $watch = $monitor->watch_jobs(sub { push @seen, $_[0] });
    $monitor->list;
    $qemu->step('kill');
    dispatch_until(sub { @seen && $seen[-1]{kind} eq 'DISCONNECTED' });
    $qemu->restart;
    dispatch_until(sub { $seen[-1]{kind} eq 'RECONNECTED' });
    is_deeply $monitor->list, [], 'and serves';
};

subtest 'bad input' => sub {
    my ($qemu, $monitor) = with_disks();
    is dies(sub { BlockJob::Monitor->connect('/no/such') })->name, 'CONNECT', 'no socket';
    is dies(sub { BlockJob::Monitor->connect('bad:uri') })->name, 'INVAL', 'no address';
    is dies(sub { $monitor->list(timeout => 'soon') })->name, 'INVAL', 'no time';
    is dies(sub { $monitor->list(force => 1) })->name, 'INVAL', 'no such option';
    is dies(sub { $monitor->mirror('disk0') })->name, 'INVAL', 'no target';
    is dies(sub { $monitor->mirror('none', target => 'copy0') })->name, 'REFUSED', 'no node';
    like dies(sub { $monitor->attach("a\0b") }), qr/null character/, 'a NUL';
    like dies(sub { $monitor->attach([]) }), qr/not a reference/, 'a reference';
    $monitor->close;
    is dies(sub { $monitor->list })->name, 'CLOSED', 'closed';
};

done_testing;
