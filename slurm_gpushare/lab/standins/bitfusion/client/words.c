/* One string as a command line: split into words as a shell would, without a shell. */
#include "words.h"

#include <stdlib.h>
#include <string.h>

static const char *const BLANKS = " \t\n";

/* Copy one word from *text to out and move *text behind it; 0 where a quote is left open. */
static int take_word(const char **text, char *out) {
    const char *in = *text;
    char quote = 0;
    for (; *in; in++) {
        if (!quote && strchr(BLANKS, *in))
            break;
        if (quote != '\'' && *in == '\\') {
            /* Between double quotes a backslash quotes only what would be special there. */
            if (in[1] && (!quote || strchr("\"\\$`\n", in[1])))
                in++;
            *out++ = *in;
        } else if (quote ? *in == quote : (*in == '\'' || *in == '"'))
            quote = quote ? 0 : *in;
        else
            *out++ = *in;
    }
    *out = 0;
    *text = in;
    return !quote;
}

char **split_words(const char *text) {
    size_t length = strlen(text), count = 0;
    char **words = calloc(length / 2 + 2, sizeof *words);
    if (!words)
        return NULL;
    for (;;) {
        text += strspn(text, BLANKS);
        if (!*text)
            return words;
        char *word = malloc(strlen(text) + 1);
        if (!word || !take_word(&text, word)) {
            free(word);
            while (count)
                free(words[--count]);
            free(words);
            return NULL;
        }
        words[count++] = word;
    }
}
