package ssh

// filesName is the subsystem whose operations are judged one by one.
const filesName = "sftp"
