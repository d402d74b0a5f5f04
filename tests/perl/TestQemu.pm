# SPDX-License-Identifier: MIT
# Real QEMUs for the Perl tests: a client of tests/support/qemu.
package TestQemu;
use strict;
use warnings;

use IPC::Open2 qw(open2);
use JSON::PP ();

my $json = JSON::PP->new->canonical;
my ($pid, $from, $to);

sub _do {
    my ($step, %arguments) = @_;
    if (!$pid) {
        $pid = open2($from, $to, 'tests/support/qemu');
        <$from>;    # "ready"
    }
    print {$to} $json->encode({ do => $step, %arguments }), "\n";
    $to->flush;
    my $line = <$from> // die "the helper has ended\n";
    my $answer = $json->decode($line);
    die "$step: $answer->{error}\n" if !$answer->{ok};
    return $answer;
}

sub new {
    my ($class) = @_;
    my $name = _do('start', program => 'daemon')->{qemu};
    return bless { name => $name, pid => $$ }, $class;
}

sub path   { return "$_[0]{name}/first.qmp" }
sub second { return "$_[0]{name}/second.qmp" }

sub step {
    my ($self, $step, %arguments) = @_;
    return _do($step, qemu => $self->{name}, %arguments);
}

# Another one takes its place.
sub restart {
    my ($self) = @_;
    _do('start', program => 'daemon', directory => $self->{name});
    return;
}

sub close {
    my ($self) = @_;
    _do('end', directory => $self->{name}) if $self->{name} && $self->{pid} == $$;
    delete $self->{name};
    return;
}

sub CLONE_SKIP { return 1 }    # a thread that ends does not end it
sub DESTROY { local ($@, $?); $_[0]->close; return }

1;
