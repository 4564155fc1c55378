# What the benchmark prints.

use warnings;
use strict;

use POSIX ();

our (%opt, %workloads, %targets, %runs, @peers, @names, $nginx_has);


sub median {
	my (@v) = sort { $a <=> $b } grep { defined } @_;

	return undef unless @v;

	return @v % 2 ? $v[$#v / 2] : ($v[@v / 2] + $v[@v / 2 - 1]) / 2;
}


# of two peers in the same round


sub ratio {
	my ($name, $peer, $to, $key) = @_;

	my ($a, $b) = ($runs{$name}{$peer} || [], $runs{$name}{$to} || []);

	return median(map { $a->[$_] && $b->[$_] && $b->[$_]{$key}
		? $a->[$_]{$key} / $b->[$_]{$key} : undef } 0 .. $#$a);
}


sub show {
	my ($format, $v) = @_;

	return defined $v ? sprintf($format, $v) : '-';
}


sub print_machine {
	my $cpu = slurp('/proc/cpuinfo') || '';
	my $version = $nginx_has =~ /nginx version: (\S+)/ ? $1 : 'nginx';
	my $built = $nginx_has =~ /built with (OpenSSL \S+)/ ? $1 : '';

	$cpu = $cpu =~ /^model name\s*:\s*(.+)$/m ? $1 : 'unknown processor';

	print "$cpu; Linux ", (POSIX::uname())[2], "; $version; $built; ",
		"rounds: $opt{rounds}; scale: $opt{scale}\n\n";
}


sub print_table {
	my ($name, $w) = @_;

	print "### $name: $w->{title}\n\n";

	if ($w->{idle}) {
		print "| peer | octets/session | relay/peer |\n",
			"| --- | ---: | ---: |\n";

		for my $peer (@peers) {
			my $runs = $runs{$name}{$peer} || [];

			print "| $peer | ", show('%.0f',
				median(map { $_ && $_->{memory} } @$runs)),
				' | ', show('%.2f', ratio($name, 'relay',
				$peer, 'memory')), " |\n";
		}

		print "\n";
		return;
	}

	print '| peer | CPU s/1,000 | min-max | relay/peer | messages/s |',
		" busy | p50 us | p99 us | node connections |\n",
		'| --- ', '| ---: ' x 8, "|\n";

	for my $peer (@peers) {
		my @r = grep { $_ } @{ $runs{$name}{$peer} || [] };
		my @cpu = sort { $a <=> $b } map { $_->{cpu} } @r;
		my %m = map { my $k = $_; $k => median(map { $_->{$k} } @r) }
			qw(cpu rate busy p50 p99 node_connections);

		print "| $peer | ", show('%.4f', $m{cpu}), ' | ',
			show('%.4f', $cpu[0]), '-', show('%.4f', $cpu[-1]),
			' | ', show('%.2f',
			ratio($name, 'relay', $peer, 'cpu')), ' | ',
			show('%.0f', $m{rate}), ' | ',
			show('%.0f %%', defined $m{busy} ? $m{busy} * 100
			: undef), ' | ', show('%.0f', $m{p50}), ' | ',
			show('%.0f', $m{p99}), ' | ',
			show('%.0f', $m{node_connections}), " |\n";
	}

	print "\n";
}


# sessions and nodes against the first of each

sub print_flat {
	my %first;

	print "### The cost of a message, at 1,250 a second\n\n",
		"| | CPU s/1,000 | to the first | octets/session |\n",
		"| --- | ---: | ---: | ---: |\n";

	for my $name (map({ "sessions $_" } 10, 100, 1000, 10000),
		map({ "nodes $_" } 1, 8, 64), map({ "idle $_" } 1000, 10000))
	{
		my $runs = $runs{$name}{relay} || [];
		my ($what) = split / /, $name;
		my $cpu = median(map { $_ && $_->{cpu} } @$runs);

		$first{$what} //= $cpu;

		print "| $name | ", show('%.4f', $cpu), ' | ',
			show('%.2f', $cpu && $cpu / $first{$what}), ' | ',
			show('%.0f', median(map { $_ && $_->{memory} }
				@$runs)), " |\n";
	}

	print "\n";
}


sub print_targets {
	my @of = grep { my $p = $_; grep { $_ eq $p } @peers } qw(relay early);
	my @to = grep { my $p = $_; grep { $_ eq $p } @peers } qw(mail stream);

	return unless @to;

	for my $of (@of) {
		print "### $of against its peers\n\n| workload |",
			map({ " $_ | target |" } @to), "\n| --- ",
			'| ---: ' x (2 * @to), "|\n";

		for my $name (@names) {
			my $key = $workloads{$name}{idle} ? 'memory' : 'cpu';

			print "| $name |", map({
				' ' . show('%.2f', ratio($name, $of, $_, $key))
				. ' | ' . show('%.2f', $targets{$_}{$name})
				. ' |'
			} @to), "\n";
		}

		print "\n";
	}
}


sub record {
	my ($name, $peer, $round, $r) = @_;

	return unless $opt{output};

	open my $f, '>>', $opt{output} or die "$opt{output}: $!\n";

	print $f "{\"workload\":\"$name\",\"peer\":\"$peer\",\"round\":$round",
		(map { defined $r->{$_} ? ",\"$_\":" . (0 + $r->{$_}) : '' }
		sort keys %$r), "}\n";
	close $f;
}


1;
