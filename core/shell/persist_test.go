package shell

import "testing"

func TestSC24Persists(t *testing.T) {
	for _, p := range []string{
		"/root/.ssh/authorized_keys", "/home/u/.ssh/config", "/home/u/.ssh", "/home/u/.ssh/rc", "/srv/u/.bashrc", "/home/u/.profile", "/home/u/.zshenv", "/home/u/.config/fish/config.fish",
		"/etc/profile", "/etc/profile.d/x.sh", "/etc/bash.bashrc", "/etc/environment", "/etc/cron.d/x", "/etc/crontab", "/etc/cron.daily/x", "/var/spool/cron/crontabs/root", "/var/spool/cron/root",
		"/etc/systemd/system/x.service", "/etc/systemd/system/x.service.d/a.conf", "/usr/lib/systemd/system/x.service", "/lib/systemd/system/x.timer", "/run/systemd/system/x.service", "/home/u/.config/systemd/user/x.service",
		"/etc/ld.so.preload", "/etc/ld.so.conf.d/x.conf", "/etc/sudoers", "/etc/sudoers.d/x", "/etc/ssh/sshd_config", "/etc/pam.d/sshd", "/etc/passwd", "/etc/shadow", "/etc/init.d/x", "/etc/rc.local", "/etc/rc3.d/S01x",
		"/srv/app/.git/hooks/post-checkout", "/srv/app/.git/config", "/srv/x.git/hooks/pre-receive", "/srv/x.git/config", "/home/u/.gitconfig", "/etc/gitconfig",
		"/home/u/.config/autostart/x.desktop", "/etc/xdg/autostart/x.desktop", "/etc/udev/rules.d/x.rules", "/etc/logrotate.d/x", "/etc/apt/apt.conf.d/x", "/etc/update-motd.d/x", "/etc/modprobe.d/x",
		"/proc/self/root/etc/cron.d/x", "/proc/1/cwd/x", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper", "/dev/sda", "/dev/mem", "/boot/vmlinuz", "/usr/local/bin/x", "/bin/ls", "/usr/lib/x.so", "/home/u/bin/ls", "/home/u/.local/bin/ls",
		"/home/u/.vimrc", "/home/u/.popt", "/home/u/.psqlrc", "/home/u/.tmux.conf", "/home/u/.netrc", "/home/u/.forward", "/home/u/.pam_environment", "/root/.BashRC", "/Users/u/Library/LaunchAgents/x.plist", "/home/u/.s\u200bsh/rc", "/home/u/.\u017fsh/rc",
		"/C:/ProgramData/ssh/administrators_authorized_keys", `/C:\Users\u\.ssh\authorized_keys`, "/home/u", "/etc", "/", "/home/u/./.ssh//x", "/home/u/x/../.ssh/y", "/srv/cron.d/x", "/var/www/.htaccess", "/home/u/.aws/credentials", "/etc/hosts.allow", "/etc/auto.master",
	} {
		if !Persists(p) {
			t.Errorf("%s takes effect later", p)
		}
	}
	for _, p := range []string{
		"/tmp/x", "/var/log/web/access.log", "/srv/app/config.yaml", "/home/u/report.csv", "/etc/nginx/nginx.conf", "/etc/myapp/app.conf", "/var/www/index.html", "/opt/app/bin/x", "/home/u/src/main.go", "/home/u/.cache/x",
		"/var/lib/postgresql/x", "/dev/null", "/dev/shm/x", "/srv/profile", "/srv/gitconfig", "/data/etc/passwd", "/run/app.pid", "/srv/app/hooks/x", "/usr/share/doc/x", "/usr/src/x", "/home/u/project/config",
	} {
		if Persists(p) {
			t.Errorf("%s is an ordinary file", p)
		}
	}
}
