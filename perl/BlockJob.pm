# SPDX-License-Identifier: MIT
package BlockJob;
use strict;
use warnings;

use BlockJob::Core;
use JSON::PP ();

our $VERSION = '0.1.0';

my $json = JSON::PP->new->allow_nonref->allow_bignum;

# A handle belongs to one of Perl's threads: its copy in a new one would give its reference back, too.
for my $handle (qw(ctx monitor job group future watch queue)) {
    no strict 'refs';
    *{"BlockJob::Core::bj_${handle}::CLONE_SKIP"} = sub { 1 };
}

# ------------------------------------------------------------------------- the loop

# One context and one queue for each process. A child of fork() makes its own when it first needs
# one; its parent's are not used there, and letting go of them does nothing.
my $loop;

sub _loop {
    return $loop if $loop && $loop->{pid} == $$;
    my ($error, $ctx) = BlockJob::Core::ctx_new();
    BlockJob::Error->throw($error) if $error;
    ($error, my $queue) = BlockJob::Core::queue_new($ctx);
    BlockJob::Error->throw($error) if $error;
    return $loop = {
        pid      => $$,
        ctx      => $ctx,
        queue    => $queue,
        token    => 0,
        handlers => {},
        records  => [],
    };
}

sub fd { return BlockJob::Core::queue_fd(_loop()->{queue}) }

# What a handler dies of goes to whoever dispatches; the other records stay for the next call.
sub dispatch {
    my $loop = _loop();
    push @{ $loop->{records} }, @{ BlockJob::Core::queue_read($loop->{queue}) };
    while (my $record = shift @{ $loop->{records} }) {
        my $handler = $loop->{handlers}{ $record->{token} };
        $handler->($record) if $handler;
    }
    return;
}

sub _subscribe {
    my ($handler) = @_;
    my $token = ++$loop->{token};
    $loop->{handlers}{$token} = $handler;
    return $token;
}

# Signal handlers run in between, and what they die of goes to the caller.
sub _run_until {
    my ($done) = @_;
    my $fd = BlockJob::fd();
    BlockJob::dispatch();
    until ($done->()) {
        vec(my $ready = '', $fd, 1) = 1;
        my $count = select $ready, undef, undef, undef;
        BlockJob::dispatch() if $count > 0;
    }
    return;
}

# ------------------------------------------------------------------------- requests

# The future's record, once it is there. A wait that is left by die no longer listens.
sub _wait {
    my ($future) = @_;
    my $loop = _loop();
    my $record;
    my $token = _subscribe(sub { $record = shift });
    my $error = BlockJob::Core::future_deliver($future, $loop->{queue}, $token);
    my $ok    = !$error && eval { _run_until(sub { $record }); 1 };
    my $died  = $@;
    delete $loop->{handlers}{$token};
    BlockJob::Error->throw($error) if $error;
    return $record if $ok;
    BlockJob::Core::future_cancel($future);
    die $died;
}

sub _call_back {
    my ($future, $value, $cb) = @_;
    my $loop = _loop();
    my $token;
    $token = _subscribe(sub {
        my ($record) = @_;
        delete $loop->{handlers}{$token};
        return $record->{error}
            ? $cb->(BlockJob::Error->of_record($record, $future), undef)
            : $cb->(undef, $value->($future, $record));
    });
    my $error = BlockJob::Core::future_deliver($future, $loop->{queue}, $token);
    BlockJob::Error->throw($error) if $error;
    return bless { future => $future }, 'BlockJob::Wait';
}

sub _invalid { return BlockJob::Error->throw($BlockJob::Core::E_INVAL, @_) }

# Seconds, which may be broken, as milliseconds.
sub _ms {
    my ($name, $seconds) = @_;
    _invalid("$name must be a number of seconds, 0 or more, not $seconds")
        if $seconds !~ /\A(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\z/ || $seconds > 1e12;
    return int($seconds * 1000 + 0.5);
}

use constant {
    _DEFAULT => $BlockJob::Core::TIMEOUT_DEFAULT,
    _FOREVER => $BlockJob::Core::TIMEOUT_NONE,
};

# Asks the library: $what->{call} with the handle, the arguments, the flags that the options name,
# and the deadline. Waits for the answer and returns its value; with the option `cb` it returns at
# once, and the answer goes there.
sub _ask {
    my ($handle, $options, $what) = @_;
    my %left    = %$options;
    my $cb      = delete $left{cb};
    my $seconds = delete $left{timeout};
    my @flags   = $what->{flags} ? (0) : ();
    for my $name (grep { exists $what->{flags}{$_} } keys %left) {
        $flags[0] |= $what->{flags}{$name} if delete $left{$name};
    }
    _invalid("there is no option '$_' here") for sort grep { exists $left{$_} } keys %left;

    my $ms = defined $seconds ? _ms('timeout', $seconds) : $what->{timeout} // _FOREVER;
    my $future
        = BlockJob::Core->can($what->{call})->($handle, @{ $what->{arguments} // [] }, @flags, $ms);
    my $value = $what->{value} // sub { 1 };
    return _call_back($future, $value, $cb) if $cb;
    my $record = _wait($future);
    die BlockJob::Error->of_record($record, $future) if $record->{error};
    return $value->($future, $record);
}

# ----------------------------------------------------------------------------- values

sub _name {
    my ($outcome) = @_;
    return $outcome == $BlockJob::Core::OUTCOME_NONE ? undef : BlockJob::Core::outcome_name($outcome);
}

sub _outcome { return _name($_[1]{outcome}) }

sub _json {
    my ($future) = @_;
    my $text = BlockJob::Core::future_json($future);
    return defined $text ? $json->decode($text) : undef;
}

sub _infos {
    my ($future) = @_;
    return [map { BlockJob::Core::future_info($future, $_) }
            0 .. BlockJob::Core::future_info_count($future) - 1];
}

# undef for nothing at all.
sub _encode {
    my ($object) = @_;
    return defined $object && %$object ? $json->encode($object) : undef;
}

my %kinds = map { no strict 'refs'; (${"BlockJob::Core::RECORD_$_"} => $_) } qw(
    EVENT DISCONNECTED RECONNECTED STATUS READY STALLED RESUMED PROGRESS ENDED LAGGED CLOSED
    APPEARED RELEASED
);

# ------------------------------------------------------------------------------ errors

package BlockJob::Error;
use strict;
use warnings;

use overload
    '""'     => sub { "$_[0]{text}\n" },
    'bool'   => sub { 1 },
    fallback => 1;

sub new {
    my ($class, $code, $text, %more) = @_;
    return bless { %more, code => $code, text => $text // BlockJob::Core::error_text($code) }, $class;
}

sub throw {
    my ($class, @what) = @_;
    die $class->new(@what);
}

sub of_record {
    my ($class, $record, $future) = @_;
    return $class->new(
        $record->{error}, $record->{text},
        class   => $record->{name},
        outcome => BlockJob::_name($record->{outcome}),
    );
}

sub code    { return $_[0]{code} }
sub text    { return $_[0]{text} }
sub class   { return $_[0]{class} // '' }
sub outcome { return $_[0]{outcome} }
sub name    { return BlockJob::Core::error_name($_[0]{code}) =~ s/\ABJ_E_//r }

# --------------------------------------------------------------------- waits, watches

package BlockJob::Wait;
use strict;
use warnings;

sub cancel {
    BlockJob::Core::future_cancel($_[0]{future});
    return;
}

package BlockJob::Watch;
use strict;
use warnings;

# $open gives (error, watch).
sub _new {
    my ($class, $monitor, $cb, $open) = @_;
    my $loop = BlockJob::_loop();
    my ($error, $watch) = $open->();
    BlockJob::Error->throw($error) if $error;
    my $token = BlockJob::_subscribe(sub { $cb->(_change($monitor, @_)) });
    my $self  = bless { watch => $watch, handlers => $loop->{handlers}, token => $token }, $class;
    $error = BlockJob::Core::watch_deliver($watch, $loop->{queue}, $token);
    BlockJob::Error->throw($error) if $error;
    return $self;
}

sub _change {
    my ($monitor, $record) = @_;
    my %change = (%$record, kind => $kinds{ $record->{kind} } // '');
    delete $change{token};
    $change{outcome} = BlockJob::_name($record->{outcome});
    $change{job}     = BlockJob::Job->_new($monitor, $record->{job}) if $record->{job};
    $change{data}    = $record->{text} eq '' ? {} : $json->decode(delete $change{text})
        if $change{kind} eq 'EVENT';
    return \%change;
}

sub close {
    my ($self) = @_;
    delete $self->{handlers}{ $self->{token} };
    BlockJob::Core::watch_close($self->{watch});
    return;
}

sub DESTROY {
    $_[0]->close;
    return;
}

# ------------------------------------------------------------------------------ monitors

package BlockJob::Monitor;
use strict;
use warnings;

sub connect {
    my ($class, $uri, %options) = @_;
    return BlockJob::_ask(BlockJob::_loop()->{ctx}, \%options, {
        call      => 'monitor_connect',
        arguments => [$uri],
        timeout   => BlockJob::_DEFAULT,
        value     => sub { bless { handle => BlockJob::Core::future_monitor($_[0]) }, $class },
    });
}

sub uri     { return BlockJob::Core::monitor_uri($_[0]{handle}) }
sub version { return BlockJob::Core::monitor_qemu_version($_[0]{handle}) }

sub close {
    BlockJob::Core::monitor_close($_[0]{handle});
    return;
}

sub reconnect {
    my ($self, $seconds) = @_;
    my $ms    = defined $seconds ? BlockJob::_ms('reconnect', $seconds) : BlockJob::_FOREVER;
    my $error = BlockJob::Core::monitor_set_reconnect($self->{handle}, $ms);
    BlockJob::Error->throw($error) if $error;
    return;
}

sub execute {
    my ($self, $command, $arguments, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, {
        call      => 'monitor_execute',
        arguments => [$command, BlockJob::_encode($arguments)],
        timeout   => BlockJob::_DEFAULT,
        value     => \&BlockJob::_json,
    });
}

sub _start {
    my ($self, $call, $options, @arguments) = @_;
    return BlockJob::_ask($self->{handle}, $options, {
        call      => $call,
        arguments => \@arguments,
        timeout   => BlockJob::_DEFAULT,
        value     => sub { BlockJob::Job->_new($self, BlockJob::Core::future_job($_[0])) },
    });
}

# Options that are not the call's own are QEMU's.
sub _start_on {
    my ($self, $call, $device, $options, @arguments) = @_;
    my %own = map { ($_ => delete $options->{$_}) } grep { exists $options->{$_} } qw(timeout cb);
    return $self->_start($call, \%own, $device, @arguments, BlockJob::_encode($options));
}

sub start {
    my ($self, $command, $arguments, %options) = @_;
    return $self->_start('monitor_start', \%options, $command, BlockJob::_encode($arguments));
}

sub mirror {
    my ($self, $device, %options) = @_;
    my ($target, $sync) = (delete $options{target}, delete $options{sync} // 'full');
    return $self->_start_on('monitor_mirror', $device, \%options, $target, $sync);
}

sub backup {
    my ($self, $device, %options) = @_;
    my ($target, $sync) = (delete $options{target}, delete $options{sync} // 'full');
    return $self->_start_on('monitor_backup', $device, \%options, $target, $sync);
}

sub commit {
    my ($self, $device, %options) = @_;
    return $self->_start_on('monitor_commit', $device, \%options);
}

sub stream {
    my ($self, $device, %options) = @_;
    return $self->_start_on('monitor_stream', $device, \%options);
}

sub attach {
    my ($self, $id, %options) = @_;
    return $self->_start('monitor_attach', \%options, $id);
}

sub list {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, {
        call    => 'monitor_list',
        timeout => BlockJob::_DEFAULT,
        value   => \&BlockJob::_infos,
    });
}

sub events {
    my ($self, $cb) = @_;
    return BlockJob::Watch->_new($self, $cb,
        sub { BlockJob::Core::monitor_watch($self->{handle}) });
}

sub watch_jobs {
    my ($self, $cb, %options) = @_;
    my $ms = BlockJob::_ms('progress', $options{progress} // 0);
    return BlockJob::Watch->_new($self, $cb,
        sub { BlockJob::Core::monitor_watch_jobs($self->{handle}, $ms) });
}

# ---------------------------------------------------------------------------------- jobs

package BlockJob::Job;
use strict;
use warnings;

# Keeps the monitor, which is closed when nobody holds it.
sub _new {
    my ($class, $monitor, $handle) = @_;
    return bless { monitor => $monitor, handle => $handle }, $class;
}

sub id       { return BlockJob::Core::job_id($_[0]{handle}) }
sub type     { return BlockJob::Core::job_type($_[0]{handle}) }
sub text     { return BlockJob::Core::job_text($_[0]{handle}) }
sub is_ready { return !!BlockJob::Core::job_is_ready($_[0]{handle}) }
sub outcome  { return BlockJob::_name(BlockJob::Core::job_outcome($_[0]{handle})) }

sub ready {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, { call => 'job_ready', value => sub { $self } });
}

my %done_flags  = (released      => $BlockJob::Core::DONE_RELEASED);
my %pivot_flags = (only_if_ready => $BlockJob::Core::PIVOT_ONLY_IF_READY);
my %abort_flags = (force => $BlockJob::Core::ABORT_FORCE, async => $BlockJob::Core::ABORT_ASYNC);

sub done {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options,
        { call => 'job_done', flags => \%done_flags, value => \&BlockJob::_outcome });
}

sub pivot {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options,
        { call => 'job_pivot', flags => \%pivot_flags, value => \&BlockJob::_outcome });
}

sub abort {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options,
        { call => 'job_abort', flags => \%abort_flags, value => \&BlockJob::_outcome });
}

sub _verb {
    my ($self, $call, $options, @arguments) = @_;
    return BlockJob::_ask($self->{handle}, $options, { call => $call, arguments => \@arguments });
}

sub pause     { my ($self, %options) = @_; return $self->_verb('job_pause',    \%options) }
sub resume    { my ($self, %options) = @_; return $self->_verb('job_resume',   \%options) }
sub finalize  { my ($self, %options) = @_; return $self->_verb('job_finalize', \%options) }
sub dismiss   { my ($self, %options) = @_; return $self->_verb('job_dismiss',  \%options) }

sub set_speed {
    my ($self, $bytes_per_second, %options) = @_;
    return $self->_verb('job_set_speed', \%options, $bytes_per_second);
}

sub change {
    my ($self, $arguments, %options) = @_;
    return $self->_verb('job_change', \%options, $json->encode($arguments));
}

sub info {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, {
        call    => 'job_query',
        timeout => BlockJob::_DEFAULT,
        value   => sub { BlockJob::_infos(@_)->[0] },
    });
}

sub watch {
    my ($self, $cb, %options) = @_;
    my $ms = BlockJob::_ms('progress', $options{progress} // 0);
    return BlockJob::Watch->_new($self->{monitor}, $cb,
        sub { BlockJob::Core::job_watch($self->{handle}, $ms) });
}

# -------------------------------------------------------------------------------- groups

package BlockJob::Group;
use strict;
use warnings;

sub new {
    my ($class, @jobs) = @_;
    my ($error, $group) = BlockJob::Core::group_new(BlockJob::_loop()->{ctx});
    for my $job (@jobs) {
        $error ||= BlockJob::Core::group_add($group, $job->{handle});
    }
    BlockJob::Error->throw($error) if $error;
    return bless { handle => $group, jobs => \@jobs }, $class;
}

sub ready {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, { call => 'group_ready' });
}

sub done {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, { call => 'group_done', flags => \%done_flags });
}

sub pivot {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options, { call => 'group_pivot' });
}

sub abort {
    my ($self, %options) = @_;
    return BlockJob::_ask($self->{handle}, \%options,
        { call => 'group_abort', flags => \%abort_flags });
}

1;

__END__

=encoding UTF-8

=head1 NAME

BlockJob - await the block jobs of QEMU

=head1 SYNOPSIS

    use BlockJob;

    my $monitor = BlockJob::Monitor->connect('unix:/run/vm1.qmp', timeout => 5);
    my $job = $monitor->mirror('drive0', target => 'copy0', sync => 'full');
    my $outcome = eval { $job->ready->pivot(timeout => 60) };
    if (my $error = $@) {
        eval { $job->abort(force => 1) };
        die "drive-mirror failed: $error";
    }
    print "$outcome\n";    # PIVOTED

=head1 DESCRIPTION

A hypervisor copies, merges or backs up the disk of a running guest with a block job. This module
waits for the moments of such a job (ready, pivot, abort, end) by QEMU's own events, without asking
again and again, and says truthfully how the job ended. It is the Perl side of libblockjob, whose
header and guide have the details.

=head2 Waiting

A method that waits returns the value, or dies with a L</ERRORS> object. It waits in C<select>, so
signal handlers run, and C<alarm> with a handler that dies ends the wait. That, like a C<timeout>,
means "I no longer listen": the job goes on, but a pivot that was not sent yet is not sent.

Every method that waits takes these options:

=over

=item timeout => SECONDS

A deadline, in seconds, which may be broken. Without it C<connect> waits for 10 s, starts, C<attach>,
C<list>, C<info> and C<execute> for 60 s, and all waits on a job for ever.

=item cb => sub { my ($error, $value) = @_; ... }

The method returns at once, with an object that has a method C<cancel>, and the answer goes to the sub.
Letting go of the object cancels nothing.

=back

=head2 Event loops

Callbacks are run by C<< BlockJob->dispatch >>, which never waits, and by methods that wait. In an event
loop call it whenever the descriptor C<< BlockJob->fd >> is readable; with AnyEvent:

    my $watcher = AnyEvent->io(
        fh   => BlockJob->fd,
        poll => 'r',
        cb   => sub { BlockJob->dispatch },
    );

The descriptor belongs to the module: never read or close it (give AnyEvent its number: a Perl file
handle would close it). What a callback dies of goes to whoever dispatches.

=head2 fork

A child of C<fork> makes connections of its own; the objects of its parent die there with the error
FORKED, and letting go of them does nothing. Take C<fd> again in the child.

=head1 MONITORS

=over

=item BlockJob::Monitor->connect($uri, %options)

Connects to the QMP socket of a QEMU or qemu-storage-daemon: C<unix:/path>, C<tcp:host:port> or C<fd:N>;
or to a domain of libvirt, C<qemu:///system#vm1>, if the libvirt driver is installed. QEMU serves one
client per socket. The monitor is closed when nobody holds it; its jobs hold it.

=item $monitor->mirror($device, target => $node, sync => $sync, %options)

=item $monitor->backup($device, target => $node, sync => $sync, %options)

=item $monitor->commit($device, %options)

=item $monitor->stream($device, %options)

Start a job and return it once QEMU has accepted. C<sync> is "full" if it is left out. Options other
than C<timeout> and C<cb> are QEMU's own arguments of blockdev-mirror and so on; numbers and strings
are passed as Perl has them, so write C<0 + $speed> for one that was read as text.

=item $monitor->start($command, \%arguments, %options)

Starts a job with any command that starts one.

=item $monitor->attach($id, %options)

A job that another client, or an earlier process, has started.

=item $monitor->list(%options)

A reference to an array of hashes, one for each job: C<id>, C<type>, C<status>, C<error>, C<io_status>,
C<current>, C<total>, C<speed>, C<ready>, C<paused>, C<auto_dismiss>, C<auto_finalize>. What QEMU does not
report is C<undef>, "" or 0.

=item $monitor->execute($command, \%arguments, %options)

Any command of QMP; returns what QEMU returned, as L<JSON::PP> decodes it.

=item $monitor->events($cb)

=item $monitor->watch_jobs($cb, progress => SECONDS)

Call the sub with a hash for each event of QEMU, or for each thing that happens to any job. They return
an object: letting go of it ends the watch. The hash has C<kind>: EVENT (with C<name> and C<data>);
APPEARED (C<name> is the type; C<started>: by this library), READY, STALLED (C<text> says why), RESUMED,
PROGRESS (C<current>, C<total>; asked for as often as C<progress> says), ENDED (C<outcome>, C<text>) and
RELEASED, with the C<job>; DISCONNECTED, RECONNECTED; LAGGED (C<lost> of them were dropped, because
nobody dispatched); CLOSED, the last. C<timestamp> is QEMU's, in seconds since 1970.

=item $monitor->reconnect($seconds)

From now on a connection that ends is made again, for up to so many seconds (without an argument: for
ever), and waits on jobs go on through it.

=item $monitor->uri, $monitor->version, $monitor->close

=back

=head1 JOBS

=over

=item $job->ready(%options)

Waits until source and target are equal and stay so; returns the job.

=item $job->pivot(%options)

Switches the disk to the copy (mirror) or the base (commit of the active layer) as soon as the job is
ready, and returns "PIVOTED". With C<< only_if_ready => 1 >> it dies with NOT_READY if it is not ready now.

=item $job->abort(%options)

Ends the job and returns how it ended: a ready mirror that is aborted softly is COPIED, a usable copy;
with C<< force => 1 >> it is CANCELLED. With C<< async => 1 >> it waits for QEMU's consent only.

=item $job->done(%options)

Waits for the end and returns the outcome: COMPLETED, PIVOTED, COPIED or CANCELLED. FAILED and LOST are
errors (JOB_FAILED, JOB_LOST). With C<< released => 1 >> it waits until QEMU has let go of the nodes.

=item $job->pause, $job->resume, $job->set_speed($bytes_per_second), $job->finalize, $job->dismiss, $job->change(\%arguments)

=item $job->info(%options)

How far it is: one row as of C<list>.

=item $job->watch($cb, progress => SECONDS)

What happens to this job, as C<watch_jobs>; with STATUS, QEMU's own status in C<name>.

=item $job->id, $job->type, $job->is_ready, $job->outcome, $job->text

What is known now. C<outcome> is C<undef> until the job has ended; C<text> says why it FAILED or was LOST.

=back

=head1 GROUPS

    my $group = BlockJob::Group->new(@jobs);
    $group->pivot(timeout => 60);

C<ready>, C<done>, C<pivot> (all or none) and C<abort> of several jobs.

=head1 ERRORS

Whatever fails dies with a C<BlockJob::Error>. As a string it is its sentence and a newline.

=over

=item code, name

C<$BlockJob::Core::E_TIMEOUT>, "TIMEOUT"; TIMEOUT, CONNECT, DISCONNECTED, REFUSED, NO_JOB, NOT_READY, STALLED,
STATE, JOB_FAILED, JOB_LOST, JOB_ENDED, INVAL and the others of libblockjob's header.

=item text

A sentence that names the thing and the remedy.

=item class

QEMU's error class, of REFUSED.

=item outcome

How the job had ended, if it had.

=back

An argument that is no string, or no number where one is needed, dies with Perl's own error.

=head1 THREADS

Use the module in one of Perl's threads. In a thread that is started later its objects are not valid.

=head1 SEE ALSO

libblockjob(3), L<AnyEvent>

=cut
