package shell

import (
	"path"
	"strings"
	"unicode"
)

// Persists says that something written there takes effect later by itself: a
// shell, a login, a timer, the loader, a service or git runs it or believes it.
// It errs to yes; who means such a path names it whole. Case and characters
// without a look do not count, as some file systems have it.
func Persists(p string) bool {
	p = strings.ToLower(strings.ToUpper(strings.Map(visible, path.Clean("/"+strings.ReplaceAll(p, "\\", "/")))))
	parts := strings.Split(p[1:], "/")
	for i, part := range parts {
		if startFiles[part] || strings.HasPrefix(part, "authorized_keys") || strings.HasPrefix(part, ".zcompdump") {
			return true
		}
		if i > 0 && pairs[parts[i-1]+"/"+part] {
			return true
		}
		if repository := i > 0 && strings.HasSuffix(parts[i-1], ".git"); repository && (part == "hooks" || part == "config" || part == "info") {
			return true
		}
	}
	at := func(i int) string {
		if i < len(parts) {
			return parts[i]
		}
		return ""
	}
	switch top, second := parts[0], at(1); top {
	case "bin", "sbin", "boot", "efi", "lib", "lib32", "lib64", "libx32", "sys", "proc":
		return true // the last two: another name of any file, and what the kernel runs
	case "etc":
		return second == "" || etc[second] || strings.HasPrefix(second, "rc") || strings.HasPrefix(second, "cron") || strings.HasPrefix(second, "auto.") || strings.HasPrefix(second, "ld.so")
	case "usr":
		if second == "local" {
			second = at(2)
		}
		return second == "" || second == "bin" || second == "sbin" || strings.HasPrefix(second, "lib") || second == "etc"
	case "dev":
		return second != "shm" && second != "null" && second != "full" && second != "zero" && second != "tty" && second != "pts" && second != "stdout" && second != "stderr" && second != "fd"
	case "var":
		return second == "" || variable[second+"/"+at(2)] || second == "at" || second == "cron"
	case "run":
		return second == "" || second == "systemd" || second == "udev" || second == "dbus"
	case "root":
		return second == "" || second == "bin"
	case "home", "users":
		return at(2) == "" || at(2) == "bin"
	case "library", "system":
		return true
	}
	return p == "/"
}

// PersistsIn says that a directory is above one that Persists knows by more than its
// last name, as far as that is known: /var/spool is above /var/spool/cron.
func PersistsIn(dir string) bool {
	last := strings.ToLower(path.Base(path.Clean(dir)))
	if strings.HasSuffix(last, ".git") { // hooks, config
		return true
	}
	for name := range pairs {
		if strings.HasPrefix(name, last+"/") {
			return true
		}
	}
	for name := range variable {
		if top, _, _ := strings.Cut(name, "/"); dir == "/var/"+top {
			return true
		}
	}
	return Persists(dir)
}

func visible(r rune) rune {
	if unicode.Is(unicode.Cf, r) {
		return -1
	}
	return r
}

// startFiles are files and directories by their name, wherever they are.
var startFiles = set(`
	.profile .login .logout .bashrc .bash_profile .bash_login .bash_logout .bash_aliases .bash_completion .bashrc.d .bash.d .profile.d
	.zshrc .zshenv .zprofile .zlogin .zlogout .zsh .zfunc .oh-my-zsh .kshrc .mkshrc .shrc .shinit .yashrc .cshrc .tcshrc .cshdirs .inputrc
	.xinitrc .xserverrc .xsession .xsessionrc .xprofile .xresources .xdefaults .pam_environment .environment .hushlogin
	.ssh .rhosts .shosts .k5login .k5users .gnupg .netrc .forward .qmail .procmailrc .mailcap .mailrc .vacation
	.git .gitconfig .hgrc .hg .svn .subversion .gitattributes .gitmodules
	.vimrc .gvimrc .exrc .vim .nvimrc .emacs .emacs.d .screenrc .tmux.conf .tmux .lesskey .lessfilter .nanorc
	.popt .psqlrc .my.cnf .mylogin.cnf .sqliterc .gdbinit .lldbinit .pdbrc .irbrc .pryrc .rprofile .renviron .pythonrc .pythonrc.py .perldb .node_repl
	.npmrc .yarnrc .yarnrc.yml .curlrc .wgetrc .rpmmacros .pypirc .condarc .envrc .direnvrc .tool-versions .ansible.cfg ansible.cfg .terraformrc
	.aws .azure .kube .docker .cargo .rustup .gradle .m2 .nvm .pyenv .rbenv .asdf .launchd.conf
	.htaccess .user.ini crontab crontabs cron.d cron.hourly cron.daily cron.weekly cron.monthly authorized_principals
	sitecustomize.py usercustomize.py launchagents launchdaemons startupitems
`)

// pairs are a directory and what is in it, wherever they are.
var pairs = set(`
	.config/systemd .config/autostart .config/autostart-scripts .config/plasma-workspace .config/environment.d .config/user-tmpfiles.d .config/fish .config/zsh .config/git
	.config/nvim .config/vim .config/emacs .config/tmux .config/nushell .config/elvish .config/xonsh .config/powershell .config/direnv .config/pip .config/upstart .config/sway .config/i3
	.config/containers .config/htop .config/mc .config/less .config/user-dirs.dirs .config/gcloud
	.local/bin .local/lib .local/share .local/etc
	systemd/system systemd/user dbus-1/services xdg/autostart programs/startup programdata/ssh windows/system32
`)

// etc are files and directories in /etc.
var etc = set(`
	profile profile.d bash.bashrc bashrc bash.bash_logout bash_completion bash_completion.d zsh zshrc zshenv zprofile zlogin zlogout csh csh.cshrc csh.login csh.logout
	ksh.kshrc mkshrc suid_profile fish environment environment.d skel inputrc shells passwd passwd- shadow shadow- group group- gshadow gshadow- subuid subgid login.defs login.access
	nsswitch.conf pam.conf pam.d security sudo.conf sudoers sudoers.d sudo_logsrvd.conf doas.conf doas.d polkit-1 dbus-1 ssh sshd_config krb5.conf sssd
	anacrontab at.allow at.deny incron.d incron.allow fcrontab systemd init init.d inittab default sysconfig conf.d runit sv s6 service services.d openrc supervisor supervisord.conf
	supervisord.d monit xinetd.conf xinetd.d inetd.conf inetd.d rsyncd.conf xdg x11 modprobe.conf modprobe.d modules modules-load.d udev hotplug hotplug.d sysctl.conf sysctl.d tmpfiles.d sysusers.d binfmt.d
	apt dpkg yum yum.conf yum.repos.d dnf zypp pacman.conf pacman.d apk portage kernel initramfs-tools initcpio mkinitcpio.conf dracut.conf dracut.conf.d grub.d grub2 default.grub lilo.conf
	dhcp dhcpcd.conf dhcpcd.enter-hook dhcpcd.exit-hook dhclient.conf network networkmanager networkd-dispatcher netplan ppp wpa_supplicant ifplugd openvpn wireguard strongswan
	logrotate.conf logrotate.d update-motd.d rsyslog.conf rsyslog.d syslog.conf syslog-ng syslog-ng.d audit audisp auditd aliases aliases.db mail postfix exim4 exim dovecot mailcap procmailrc
	gitconfig gitattributes vim vimrc screenrc tmux.conf hosts.allow hosts.deny hosts.equiv hosts resolv.conf alternatives acpi apm pm powertop
	docker containers cni kubernetes containerd crio fstab crypttab mtab exports autofs snmp zabbix nagios nrpe.cfg icinga2 puppet puppetlabs chef salt cloud selinux apparmor apparmor.d letsencrypt
	ca-certificates ca-certificates.conf java php python perl ruby gdb npmrc wgetrc curlrc psqlrc my.cnf mysql.cnf lightdm gdm gdm3 sddm.conf sddm.conf.d needrestart update-notifier watchdog.d smartd.conf smartmontools
	mdadm mdadm.conf lvm multipath.conf keepalived corosync pacemaker ha.d bacula
`)

// variable are directories of two parts in /var.
var variable = set(`
	spool/cron spool/at spool/atjobs spool/anacron spool/incron spool/fcron spool/crontabs lib/cloud lib/systemd lib/dpkg lib/rpm lib/polkit-1 lib/accountsservice lib/dbus
	lib/docker lib/containerd lib/kubelet lib/puppet lib/networkmanager lib/sudo db/sudo lib/ security/
`)
