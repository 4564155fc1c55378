package SMTPRelay::Verdicts;

# An auth service whose verdicts a test can change while it runs, and logins
# to see where they come from.  Its name is "auth".
#
#     my $v = SMTPRelay::Verdicts->new($t);
#
#     $v->user('ann', "Auth-Account: a\n");   headers of an OK, "" for none
#     $v->user('ben', '500');                 a status
#     $v->user('cid', ':silent');             or what SMTPRelay::Auth knows
#     $v->answer('500');                      the same for all users
#     $v->answer();                           each as his own again
#
# "Secret: x" among the headers is the only secret that is OK; a user of whom
# nothing was said is refused.
#
# access.log must have lines that begin with "$smtp_relay_event
# $smtp_relay_user" and end with "$smtp_relay_auth_source".

use strict;
use warnings;

use SMTPRelay::Util qw/ wait_until slurp spew /;

sub new {
    my ($class, $t) = @_;

    my $self = bless { t => $t, dir => $t->dir() }, $class;
    my $dir = $self->{dir};

    $self->{auth} = $t->auth_service('auth', answer => sub {
        my ($request) = @_;

        my $user = $request->{headers}{'auth-user'} // '';
        my $secret = $request->{headers}{'auth-pass'} // '';
        my $text = slurp("$dir/answer") // slurp("$dir/user-$user") // '401';

        return [$1, {}] if $text =~ /^(\d{3})$/;
        return $text if $text =~ /^:/;

        my %headers = $text =~ /^(\S+): (.*)$/mg;
        my $wanted = delete $headers{Secret};

        return { 'Auth-Status' => 'Wrong secret' }
            if defined $wanted && $wanted ne $secret;

        return { 'Auth-Status' => 'OK', %headers };
    });

    return $self;
}

sub stop { return $_[0]{auth}->stop() }
sub start { return $_[0]{auth}->start() }

# Gives the name.

sub user {
    my ($self, $name, $text) = @_;
    spew("$self->{dir}/user-$name", $text // '');
    return $name;
}

sub answer {
    my ($self, $text) = @_;

    unlink "$self->{dir}/answer";
    spew("$self->{dir}/answer", $text) if defined $text;
    return;
}

# How often the service was asked, about a user or at all.

sub requests {
    my ($self, $user) = @_;

    return scalar grep { !defined $user
                         || $_->{headers}{'auth-user'} eq $user }
                  $self->{auth}->requests();
}

# The reply to AUTH in a session of its own.

sub login {
    my ($self, $user, $port, $secret) = @_;

    my $c = $self->{t}->greeted($port // 'smtp');
    my $reply = $c->ask('AUTH PLAIN ' . $c->plain($user, $secret // 'x'));
    $c->ask('QUIT');
    return $reply;
}

# Where the verdict on a login is from that is made now.

sub source {
    my ($self, $user, $port) = @_;

    my $before = $self->_sessions($user);
    my @lines;

    $self->login($user, $port);
    wait_until { @lines = $self->_sessions($user); @lines > $before };

    my ($source) = ($lines[-1] // '') =~ / (\S+)$/;
    return $source // 'nothing in the log';
}

# The user logs in until the verdict is from there.

sub source_becomes {
    my ($self, $user, $wanted, $port) = @_;
    return wait_until { $self->source($user, $port) eq $wanted } 20;
}

sub _sessions {
    my ($self, $user) = @_;
    return grep { /^session $user / } $self->{t}->lines('access.log');
}

1;
