# Prints what systemd says of units in every state, and to other calls of etcd_ha_common_systemd.
# It makes units, starts them and breaks them: run it as root on a host that is thrown away.
set -u
P=LoadState,ActiveState,SubState,UnitFileState,FragmentPath,NeedDaemonReload,InvocationID
S=$P,MainPID,ExecMainStartTimestamp,Result
export TZ=UTC LC_ALL=C
U=/etc/systemd/system
unit() { printf '[Unit]\nDescription=%s\n[Service]\n%s\n[Install]\nWantedBy=multi-user.target\n' "$1" "$2" > $U/$1.service; }
unit running 'ExecStart=/bin/sleep 9000'
unit failed 'ExecStart=/bin/false'
unit killed 'ExecStart=/bin/sh -c "kill -9 $$$$"'
unit missing 'ExecStart=/nowhere/etcd'
unit restarting $'ExecStart=/bin/false\nRestart=always\nRestartSec=100'
unit starting $'Type=notify\nExecStart=/bin/sleep 9000\nTimeoutStartSec=9000'
unit stopping $'ExecStart=/bin/sleep 9000\nExecStop=/bin/sleep 9000\nTimeoutStopSec=9000'
unit reloading $'ExecStart=/bin/sleep 9000\nExecReload=/bin/sleep 9000\nTimeoutStartSec=9000'
unit ended $'Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true'
unit timedout $'Type=notify\nExecStart=/bin/sleep 9000\nTimeoutStartSec=1'
unit stopped 'ExecStart=/bin/sleep 9000'
unit orphan 'ExecStart=/bin/sleep 9000'
unit stale 'ExecStart=/bin/sleep 9000'
unit bad 'ExecStart=relative'
unit template@ 'ExecStart=/bin/sleep 9000'
printf '[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n' > $U/stopped.timer
ln -sf /dev/null $U/masked.service
systemctl daemon-reload
systemctl enable -q running stopped.timer
systemctl start running orphan stale ended template@x stopped.timer reloading stopping 2>/dev/null
for u in failed killed missing timedout; do systemctl start $u 2>/dev/null; done
systemctl start --no-block restarting starting 2>/dev/null
systemctl reload --no-block reloading; systemctl stop --no-block stopping
rm $U/orphan.service; systemctl daemon-reload
echo "# x" >> $U/stale.service
sleep 3
show() { echo "== $1"; systemctl show --property=$2 -- $1 2>&1; echo "rc $?"; }
for u in running failed killed missing restarting starting stopping reloading ended timedout stopped orphan stale bad template@x masked nope; do show $u.service $S; done
for u in stopped.timer dbus.socket multi-user.target -.mount system.slice init.scope; do show $u $P; done
echo "== unknown option"; systemctl show --timestmp=unix running.service; echo "rc $?"
echo "== --timestamp=unix"; systemctl show --timestamp=unix --property=ActiveState running.service 2>&1; echo "rc $?"
echo "== calendar"; systemd-analyze calendar --iterations=6 -- '*-*-* 02:30:00' 2>&1; echo "rc $?"
echo "== calendar bad"; systemd-analyze calendar --iterations=6 -- 'dayly' 2>&1; echo "rc $?"
echo "== journal none"; journalctl --no-pager --quiet -n 5 -o cat -u nope.service 2>&1; echo "rc $?"
echo "== journal failed"; journalctl --no-pager --quiet -n 5 -o cat -b -u failed.service 2>&1; echo "rc $?"
i=$(systemctl show -p InvocationID --value failed.service)
echo "== journal invocation"; journalctl --no-pager --quiet -n 5 -o cat _SYSTEMD_INVOCATION_ID=$i + INVOCATION_ID=$i 2>&1; echo "rc $?"
echo "== stop nope"; systemctl stop nope.service 2>&1; echo "rc $?"
echo "== disable nope"; systemctl disable nope.service 2>&1; echo "rc $?"
echo "== disable masked"; systemctl disable masked.service 2>&1; echo "rc $?"
echo "== reset-failed nope"; systemctl reset-failed nope.service 2>&1; echo "rc $?"
for u in starting stopping reloading restarting; do systemctl kill -s KILL $u 2>/dev/null; done
