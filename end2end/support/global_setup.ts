import { openCollector } from "./collector.ts";
import { openPostOffice } from "./post_office.ts";
import { startNotes, tellWhetherWhole } from "./seen.ts";
import { startFleet } from "./servers.ts";

export default async function globalSetup(): Promise<() => Promise<void>> {
  tellWhetherWhole();
  const forget = startNotes();
  const [office, collector] = [await openPostOffice(), await openCollector()];
  try {
    const stop = await startFleet(office.smtpPort, collector.url);
    return async () => {
      await stop();
      await office.close();
      await collector.close();
      forget();
    };
  } catch (error) {
    await office.close();
    await collector.close();
    forget();
    throw error;
  }
}
