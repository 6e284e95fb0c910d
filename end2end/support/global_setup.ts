import { openPostOffice } from "./post_office.ts";
import { startNotes } from "./seen.ts";
import { startFleet } from "./servers.ts";

export default async function globalSetup(): Promise<() => Promise<void>> {
  const forget = startNotes();
  const office = await openPostOffice();
  try {
    const stop = await startFleet(office.smtpPort);
    return async () => {
      await stop();
      await office.close();
      forget();
    };
  } catch (error) {
    await office.close();
    forget();
    throw error;
  }
}
