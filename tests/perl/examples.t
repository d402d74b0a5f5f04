# SPDX-License-Identifier: MIT
# The example program, as its user runs it.
use strict;
use warnings;

use lib 'tests/perl';
use Test::More;
use TestQemu;

sub run {
    my (@arguments) = @_;
    my @includes = map { "-I$_" } grep { !ref } @INC;
    open my $from, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', $^X, @includes, 'examples/perl/pivot.pl',
        @arguments
        or die $!;
    my $output = join '', <$from>;
    close $from;
    return ($output, $? >> 8);
}

my $qemu = TestQemu->new;
$qemu->step('disk',  name => 'disk0');
$qemu->step('empty', name => 'copy0', size => 4 * 1024 * 1024);

my ($output, $status) = run($qemu->path, 'disk0', 'copy0');
like $output, qr/\Abj-\S+ copies disk0 to copy0\nready\nPIVOTED\n\z/, 'what it prints';
is $status, 0, 'success';

($output, $status) = run($qemu->path, 'none', 'copy0');
like $output, qr/none/, 'a node that is not there is named';
isnt $status, 0, 'a failure';

($output, $status) = run($qemu->path);
like $output, qr/\Ausage: /, 'usage';

done_testing;
