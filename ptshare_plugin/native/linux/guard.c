// guard FOLDER [FILE VALUE]: tidies up when its standard input ends, however whoever holds the
// other end has ended: writes VALUE (a kernel setting as it was) to FILE, and removes FOLDER with
// the files in it.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int complain(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int put(const char* path, const char* value) {
    const int fd = open(path, O_WRONLY);
    if (fd < 0) return complain(path);
    const ssize_t length = (ssize_t)strlen(value);
    const int failed = write(fd, value, (size_t)length) != length;
    if (failed) complain(path);
    close(fd);
    return failed;
}

static int clear(const char* path) {
    DIR* folder = opendir(path);
    if (!folder) return complain(path);
    int failed = 0;
    for (struct dirent* entry; (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(folder), entry->d_name, 0) != 0) failed = complain(entry->d_name);
    }
    closedir(folder);
    return rmdir(path) != 0 ? complain(path) : failed;
}

int main(int argc, char** argv) {
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: guard FOLDER [FILE VALUE]\n");
        return 2;
    }
    // What ends the other side must not end this.
    setsid();
    const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); ++i) signal(signals[i], SIG_IGN);
    char byte;
    while (read(0, &byte, 1) == 1 || errno == EINTR) errno = 0;
    const int failed = argc == 4 ? put(argv[2], argv[3]) : 0;
    return clear(argv[1]) | failed;
}
